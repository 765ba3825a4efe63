"""Whether a specification holds for a state dict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from permgraph.checkpoints.lazy_state import shape_or_type
from permgraph.errors import NonFiniteError, SpecMismatchError
from permgraph.symmetry.elements.parts import Matrix, changes_numbers
from permgraph.wording import few

if TYPE_CHECKING:
    from permgraph.symmetry.specification.spec import PermutationSpec


def require_fit(spec: PermutationSpec, state: Mapping[str, Tensor], what: str) -> None:
    """Raise SpecMismatchError, naming keys and shapes of both sides, unless a state dict fits the model."""
    missing = [name for name in spec.shapes if name not in state]
    extra = [name for name, value in state.items() if name not in spec.shapes and isinstance(value, Tensor)]
    wrong = [
        f"{name}: {found} where the specification has {shape}"
        for name, shape in spec.shapes.items()
        if name in state and (found := shape_or_type(state[name])) != tuple(shape)
    ]
    problems = [f"missing {few(missing, 5)}"] * bool(missing) + [f"unexpected {few(extra, 5)}"] * bool(extra)
    problems += [f"different shapes: {few(wrong, 5)}"] * bool(wrong)
    if problems:
        raise SpecMismatchError(
            f"{what} does not fit the specification: {'; '.join(problems)}; "
            "derive a specification for this model, or align two models of one architecture"
        )


def require_held(
    spec: PermutationSpec, state: Mapping[str, Tensor], permutations: Mapping[str, Any] | None = None
) -> None:
    """Raise SpecMismatchError for a vector in `spec.held` whose elements differ, if an element, or any, mixes units."""
    mixes = permutations is None or any(
        isinstance(part, Matrix) and changes_numbers(part) for part in permutations.values()
    )
    for name in spec.held if mixes else ():
        vector = state[name].reshape(-1)
        if not vector.is_meta and not bool((vector == vector[:1]).all()):
            raise SpecMismatchError(
                f"the elements of {name} differ, and this specification is of models in which they are equal: fold "
                "the model first (pg.fold), or derive the specification from it"
            )


def require_in_range(name: str, before: Tensor, after: Tensor) -> None:
    """Raise NonFiniteError for a tensor in half precision that scales or maps have taken out of its range."""
    if before.dtype == torch.float16 and not bool(after.isfinite().all()) and bool(before.isfinite().all()):
        raise NonFiniteError(
            f"{name} has numbers above {torch.finfo(before.dtype).max:.0f} once it is moved, more than float16 holds: "
            "convert the model first, as with model.bfloat16() or model.float()"
        )
