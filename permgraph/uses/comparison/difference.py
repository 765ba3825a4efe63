"""What differs between two models up to symmetry, tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from permgraph.matching.alignment import Alignment
from permgraph.symmetry.elements.report import text_table
from permgraph.tracing.loaded import Loaded
from permgraph.uses.comparison.compare import Comparison, compare
from permgraph.uses.comparison.similarity import Similarity


class Difference(dict[str, Tensor]):
    """Tensor name -> B's tensor, moved to A, minus A's, for every tensor in which the two differ.

    Attributes:
        comparison: verdict and evidence, as `compare` gives them.
        same: the names of the tensors that are equal, up to rounding where scales or rotations were undone.

    """

    def __init__(self, comparison: Comparison) -> None:
        a, moved = comparison.alignment.reference, comparison.alignment.state_dict
        different = {name: tensor for name, tensor in a.items() if not _is_same(comparison, name, tensor, moved[name])}
        super().__init__({name: _less(moved[name], tensor) for name, tensor in different.items()})
        self.comparison = comparison
        self.same = tuple(name for name in a if name not in different)

    @property
    def alignment(self) -> Alignment:
        """The element that moves B to A, with its proof."""
        return self.comparison.alignment

    @property
    def similarity(self) -> dict[str, Similarity]:
        """Cosine and distance of each tensor that differs, unmoved and moved; tied tensors once."""
        return {name: one for name, one in self.comparison.tensors.items() if name in self}

    def __repr__(self) -> str:
        return f"Difference({self._head})"

    @property
    def _head(self) -> str:
        return f"{len(self)} of {len(self) + len(self.same)} tensors differ up to symmetry"

    def __str__(self) -> str:
        found = sorted(self.similarity.items(), key=lambda one: -one[1].aligned_distance)
        rows = [(name, f"{one.unmoved_distance:.2g}", f"{one.aligned_distance:.2g}") for name, one in found]
        return f"{self._head}\n\n{text_table(('|B - A| / |A|', 'unmoved', 'aligned'), rows)}" if rows else self._head


def diff(
    model_a: nn.Module | Loaded,
    model_b: nn.Module | Loaded,
    data: Iterable[Any] | None = None,
    *,
    kinds: str = "signed",
    **asked: Any,
) -> Difference:
    """gB - A, tensor by tensor, for the element g that brings B closest to A.

    With permutations and signs, the default, the difference of an unchanged tensor is exactly 0, whatever happened to
    the others. With `kinds="all"`, scales and rotations are undone too, and tensors are equal up to rounding; but these
    are fitted to all weights at once, so a change of one tensor shows in those that share its groups. Norms are then
    folded, and the differences are those of the folded models.

    Args:
        model_a: the reference, as for `compare`.
        model_b: the model that is compared with it.
        data: batches, as for `compare`.
        kinds: what may move, as for `compare`.
        asked: `args`, `kwargs`, `outputs`, `seed` and `progress`, as for `compare`.

    Returns:
        Tensor name -> difference, for every tensor in which the two differ.

    Raises:
        SpecMismatchError: the models differ in architecture.
        CalibrationError: the data is empty, not finite, constant or too short.

    """
    return Difference(compare(model_a, model_b, data, kinds=kinds, **asked))


def _is_same(comparison: Comparison, name: str, a: Tensor, b: Tensor) -> bool:
    found = comparison.tensors.get(name)
    return torch.equal(a, b) or (found is not None and found.aligned_distance <= comparison.tolerance)


def _less(b: Tensor, a: Tensor) -> Tensor:
    return b - a if a.dtype != torch.bool else b ^ a
