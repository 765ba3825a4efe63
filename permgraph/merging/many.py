"""More than two models into one model."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from numbers import Real
from typing import Any

from torch import Tensor, nn

from permgraph.arguments import typed
from permgraph.checkpoints.lazy_state import each_once, like
from permgraph.comparing.models import Models
from permgraph.errors import OptionError, SpecMismatchError
from permgraph.matching.borders import Borders
from permgraph.matching.fitting import fitted_models
from permgraph.matching.many import Placement, as_matched, foldable_of
from permgraph.merging.owners import Owners, with_base
from permgraph.merging.tensors import TensorMerge
from permgraph.symmetry.elements.parts import Index
from permgraph.symmetry.elements.permutations import checked
from permgraph.symmetry.specification.fits import require_held
from permgraph.symmetry.specification.spec import PermutationSpec
from permgraph.tracing.loaded import Loaded


@typed
def merge_many(
    models: Sequence[nn.Module | Loaded],
    permutations: Sequence[Mapping[str, Index]],
    *,
    weights: Sequence[float] | None = None,
    method: str = "linear",
    spec: PermutationSpec | None = None,
    base: nn.Module | Loaded | Mapping[str, Tensor] | None = None,
    **options: Any,
) -> dict[str, Tensor]:
    """Σ weight_m · P_m θ_m as a new state dict, for permutations from `match_many` (or any others, with `spec`).

    Computed in float32 or wider, one entry at a time, and returned in the first model's dtypes; what is not floating
    point is the first model's. Tied weights stay tied, but for those in `Placement.untied`. Rows of tokens, channels
    and positions that only some models have are the mean of those, at their shares.

    Args:
        models: two or more of one architecture; none is changed.
        permutations: the element that moves each.
        weights: the shares of the models, which sum to 1; equal by default.
        method: "linear", or another method that merges one tensor at a time, as "slerp" does those of two models.
        spec: the group, where the permutations do not come from `match_many`.
        base: as in `merge`.
        options: the method's own, by name.

    Returns:
        A new state dict with the first model's names, shapes and dtypes.

    Raises:
        SpecMismatchError: models that differ in architecture, or permutations that do not fit them.
        NonFiniteError: a weight is not finite.
        OptionError: an unknown method or option, a method for fewer models, or weights that are not shares.
        PluginError: an installed merge method cannot be loaded, or does not return what it should.

    """
    borders = [one.borders if isinstance(one, Placement) else Borders() for one in permutations]
    fitted = fitted_models(models, borders) if any(borders) and len(borders) == len(models) else models
    states = as_matched(Models.of(fitted).states, permutations)
    owners, base = with_base(Owners(borders[1:]), models, base)
    return dict(
        merged(states, permutations, weights=weights, method=method, spec=spec, base=base, owners=owners, **options)
    )


def merged(
    states: Sequence[Mapping[str, Tensor]],
    permutations: Sequence[Mapping[str, Index]],
    *,
    weights: Sequence[float] | None = None,
    method: str = "linear",
    spec: PermutationSpec | None = None,
    base: nn.Module | Mapping[str, Tensor] | None = None,
    owners: Owners | None = None,
    **options: Any,
) -> Mapping[str, Tensor]:
    """`merge_many` of state dicts; of those that are read on demand, each tensor is merged when it is asked for."""
    shares = _shares(weights, len(states))
    merge = TensorMerge.of(method, states, base, options).folded(foldable_of(permutations))
    if len(permutations) != len(states):
        raise SpecMismatchError(f"{len(permutations)} permutations for {len(states)} models: give one for each")
    known = spec or next((p.spec for p in permutations if isinstance(p, Placement)), None)
    if known is None:
        raise SpecMismatchError("these permutations do not come from match_many: pass the specification as spec=")
    known.check(like(states[0]), "model 1")
    tables = [checked(known.groups, own) for own in permutations]
    for state, own in zip(states, tables, strict=True):
        require_held(known, state, own)

    def one(name: str) -> Tensor:
        moved = [known.apply_one(own, name, state[name]) for own, state in zip(tables, states, strict=True)]
        found = merge(name, moved, shares)
        return found if owners is None else owners.completed(name, found, moved, shares)

    return each_once(states[0], one)


def _shares(weights: Sequence[float] | None, count: int) -> list[float]:
    if weights is None:
        return [1 / count] * count
    is_right = isinstance(weights, Collection) and len(weights) == count and all(map(_is_share, weights))
    if not is_right or abs(sum(weights) - 1) > 1e-6:
        raise OptionError(f"weights are {count} shares between 0 and 1 that sum to 1, not {weights}")
    return list(weights)


def _is_share(given: Any) -> bool:
    return isinstance(given, Real) and 0 <= float(given) <= 1
