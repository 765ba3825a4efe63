"""Merge methods: one decorated function each, with the paper it comes from.

Three kinds, by what they need. A *merge* makes one tensor of two. A *layer merge* makes the matrix of a linear or
convolution layer from both matrices and the second moments of both inputs; every other tensor is interpolated. A
*correction* changes a merged model with calibration data. `repair` and the like then follow a merge: "slerp+repair".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from torch import Tensor

if TYPE_CHECKING:
    from permgraph.comparing.calibration import Calibration
    from permgraph.comparing.second_moments import SecondMoments
    from permgraph.merging.shares import Shares

Share = float | Tensor
"""A's share, of a whole tensor or of each element."""

MergeFunction = Callable[[Tensor, Tensor, Share], Tensor]
"""(a, b, A's share) -> the merged tensor."""

LayerFunction = Callable[["SecondMoments", Tensor, Tensor, float], Tensor]
"""(moments of the inputs, A's matrix, B's matrix, A's share) -> the merged matrix; matrices are [groups, out, in]."""

CorrectionFunction = Callable[["Calibration", Mapping[str, Tensor], "Shares"], dict[str, Tensor]]
"""(both models and the data, a merged state dict, A's shares) -> the entries to replace, by the graph's names."""

F = TypeVar("F")


@dataclass(frozen=True)
class Registered(Generic[F]):
    """A method, with the URL or arXiv number of its source."""

    name: str
    merge: F
    reference: str


METHODS: dict[str, Registered[MergeFunction]] = {}
LAYER_METHODS: dict[str, Registered[LayerFunction]] = {}
CORRECTIONS: dict[str, Registered[CorrectionFunction]] = {}


class _Register(Protocol[F]):
    def __call__(self, name: str, *, reference: str) -> Callable[[F], F]: ...


def _into(table: dict[str, Registered[F]]) -> _Register[F]:
    """A decorator that registers a function in `table`; no two methods of any kind have one name."""

    def method(name: str, *, reference: str) -> Callable[[F], F]:
        def register(function: F) -> F:
            if name in (*METHODS, *LAYER_METHODS, *CORRECTIONS):
                raise ValueError(f"there is a merge method {name!r} already")
            table[name] = Registered(name, function, reference)
            return function

        return register

    return method


merge_method: _Register[MergeFunction] = _into(METHODS)
layer_method: _Register[LayerFunction] = _into(LAYER_METHODS)
correction: _Register[CorrectionFunction] = _into(CORRECTIONS)
