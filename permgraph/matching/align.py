"""Aligns B to A: derive the groups, compare units, assign, and prove that B's function is unchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Any

from torch import Tensor, nn

from permgraph.assignment.solve import Term, solve
from permgraph.checkpoints.reading import require_finite
from permgraph.comparing.models import Batch, Pair, Progress, as_batch
from permgraph.comparing.points import find_points, weigh
from permgraph.errors import CalibrationError, OptionError, SpecMismatchError, VerificationError
from permgraph.matching.correlation import correlation_terms
from permgraph.matching.gains import Gain, correlation_gains, shares_of_bounds
from permgraph.matching.partners import Comparison, compare
from permgraph.matching.universe import Placed, with_unseen
from permgraph.matching.weights.search import WeightSearch, match_weights
from permgraph.symmetry.derivation import Derivation
from permgraph.symmetry.permutations import PermutationGroup, Permutations
from permgraph.symmetry.spec import PermutationSpec
from permgraph.symmetry.verification import Certificate, certify
from permgraph.tracing.capture import as_args, capture
from permgraph.tracing.run import bind, one_sample

METHODS = ("correlation", "weights")
MIX = "mix"


@dataclass(frozen=True, eq=False)
class Alignment:
    """B moved to A.

    Attributes:
        permutations: the element of the symmetry group that moves B's units to A's places, new = old[perm].
        spec: the group.
        gains: group -> its objective at the identity and at the solution.
        certificate: the proof that this element leaves B's function unchanged.
        method: "correlation", "weights" or "mix".
        exact: groups whose assignment is a proven optimum of its objective.
        search: with weights or a mix, how the search ended: objective, bound, gap, whether at a fixed point.
        comparisons: with correlation or a mix, what each unit correlates with, unmoved and moved, point by point.

    """

    permutations: Permutations
    spec: PermutationSpec
    gains: Mapping[str, Gain]
    certificate: Certificate
    method: str
    exact: tuple[str, ...]
    _state_b: Mapping[str, Tensor] = field(repr=False)
    search: WeightSearch | None = None
    comparisons: tuple[Comparison, ...] = ()

    @cached_property
    def state_dict(self) -> dict[str, Tensor]:
        """B's weights, moved; computed on first use."""
        return self.spec.apply(self.permutations, self._state_b)

    def moved(self, name: str) -> Tensor:
        """One entry of `state_dict`, without making the others."""
        return self.spec.apply_one(self.permutations.tables, name, self._state_b[name])


def align(
    model_a: nn.Module,
    model_b: nn.Module,
    data: Iterable[Any] | None = None,
    *,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    spec: PermutationSpec | None = None,
    method: str | None = None,
    mix: float | None = None,
    point_weights: Mapping[str, Sequence[float]] | None = None,
    groups: Sequence[str] | None = None,
    outputs: str = "fixed",
    seed: int = 0,
    progress: Progress | None = None,
) -> Alignment:
    """Match the units of B to those of A, and prove that moving them leaves B's function unchanged.

    Args:
        model_a: the reference, in eval mode.
        model_b: the model to move; neither is changed.
        data: batches for both models: a tensor, a tuple of args or a dict of kwargs each. Batches of one shape are
            fastest, since every new shape is traced anew.
        args: example inputs, for tracing without data and for the proof, which is the faster the smaller they are;
            the first sample of the first batch by default.
        kwargs: example keyword inputs.
        spec: the groups; derived with `outputs` by default.
        method: "correlation" (default with data) or "weights" (default without).
        mix: instead of a method, the share of activations in what is maximised: 1 is correlation, 0 is weights, between
            them (1 - mix) F / F_max + mix C / C_max, both at most 1 (MuDSC, arXiv 2403.01753).
        point_weights: role or name of a group -> a weight for each of the points where its activations are compared,
            first to last; 0 leaves a point out. All 1 by default.
        groups: roles or names of the groups to move ("attention" covers all roles that begin with it); the others
            stay at the identity. All by default.
        outputs: whether the model's outputs may be permuted, as in `derive`; ignored when `spec` is given.
        seed: of the verification, and of further starts with weights.
        progress: called as progress(stage, done, total).

    Raises:
        SpecMismatchError: the models differ in architecture, or `groups` names nothing.
        OptionError: `method`, `mix` or `point_weights` is not what it can be.
        CalibrationError: the data is empty, not finite, constant or too short.
        VerificationError: the alignment would change B's function; nothing is returned.

    """
    method, mix = method_and_mix(method, mix, data)
    batches, total, example = _batches(data)
    given = (as_args(args), dict(kwargs or {}))
    example = example or given
    state_a, state_b = (dict(model.state_dict()) for model in (model_a, model_b))
    require_pair(state_a, state_b)
    pair = Pair(model_a, model_b, state_a, state_b)
    program = pair.program(*example)
    derivation = Derivation(program, spec.outputs if spec is not None else outputs, {})
    spec = agreed(spec, derivation.spec)
    spec.check(state_b, "model B")
    chosen = select(spec, groups)
    terms: list[Term] = []
    if mix:
        points = weigh(find_points(derivation, [g.name for g in chosen]), point_weights or {}, covering(spec))
        terms = correlation_terms(pair, points, batches, total, progress)
    if mix == 1:
        solution = solve(chosen, terms, pinned=pinned_sizes(spec))
        compared = correlation_gains(chosen, terms, solution)
        exact, search = tuple(name for name in solution.exact if name in compared), None
        placed = Placed([{group.name: group.identity() for group in chosen}, dict(solution)], [{}, compared])
        placed = with_unseen(placed, spec, chosen, (state_a, state_b), seed=seed)
        tables, gains = placed.tables[1], placed.gains[1]
    else:
        matched = match_weights(
            spec, chosen, state_a, state_b, seed=seed, activations=terms, mix=mix, progress=progress
        )
        tables, search = matched.tables, matched.search
        exact = tuple(tables) if search.proven else ()
        gains = shares_of_bounds(matched.gains) if mix else {k: Gain(*v) for k, v in matched.gains.items()}
    permutations = Permutations({**spec.identity(), **tables})
    certificate = _proof(pair, spec, permutations, one_sample(given if any(given) else example), seed)
    comparisons = compare(chosen, terms, tables)
    return Alignment(permutations, spec, gains, certificate, method, exact, state_b, search, comparisons)


def _proof(pair: Pair, spec: PermutationSpec, element: Permutations, example: Batch, seed: int) -> Certificate:
    program = capture(pair.model_b, *example)
    certificate = certify(program, spec, pair.state_b, bind(program, *example), element=element, trials=1, seed=seed)
    if not certificate.ok:
        raise VerificationError(
            f"the alignment is refused: {certificate}; leave those groups out by groups, and please report this model"
        )
    return certificate


def method_and_mix(method: str | None, mix: float | None, data: object) -> tuple[str, float]:
    """The name of the method, and the share of activations in what is maximised."""
    if mix is None:
        method = choose_method(method, data)
        return method, 1.0 if method == "correlation" else 0.0
    if not 0 <= mix <= 1:
        raise OptionError(f"mix is the share of activations, from 0 (weights alone) to 1 (correlation), not {mix}")
    if method is not None:
        raise OptionError(f"give method {method!r} or mix {mix}, not both: a mix of 0 is weights, one of 1 correlation")
    if mix and data is None:
        raise CalibrationError(f"a mix of {mix} compares activations: give it calibration data")
    return ("correlation" if mix == 1 else MIX if mix else "weights"), float(mix)


def choose_method(method: str | None, data: object) -> str:
    """The method asked for; by default correlation with data and weights without. OptionError for any other."""
    method = method or ("weights" if data is None else "correlation")
    if method not in METHODS:
        raise OptionError(f"method is one of {', '.join(METHODS)}, not {method!r}")
    if method == "correlation" and data is None:
        raise CalibrationError('method "correlation" compares activations: give it calibration data')
    return method


def _batches(data: Iterable[Any] | None) -> tuple[Iterable[Any], int | None, Batch | None]:
    """All batches, their number if known, and the first."""
    if data is None:
        return (), None, None
    if isinstance(data, Tensor | Mapping | str):
        raise CalibrationError(f"data is an iterable of batches, not one {type(data).__name__}: put it in a list")
    iterator = iter(data)
    try:
        first = next(iterator)
    except StopIteration:
        raise CalibrationError("the calibration data is empty: give at least one batch") from None
    total = len(data) if isinstance(data, Sized) else None
    return chain([first], iterator), total, as_batch(first)


def require_pair(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> None:
    """Raise an error, with both shapes, unless two state dicts are of one architecture and finite."""
    shape_a, shape_b = ({name: tuple(tensor.shape) for name, tensor in state.items()} for state in (a, b))
    different = [
        f"{name}: {shape_a.get(name, 'absent')} in A, {shape_b.get(name, 'absent')} in B"
        for name in dict.fromkeys([*a, *b])
        if shape_a.get(name) != shape_b.get(name)
    ]
    if different:
        raise SpecMismatchError(
            f"the two models are not of one architecture: {'; '.join(different[:5])}"
            + (f" and {len(different) - 5} more" if len(different) > 5 else "")
            + "; give two of the same shapes"
        )
    require_finite(a, "model A")
    require_finite(b, "model B")


def agreed(given: PermutationSpec | None, derived: PermutationSpec) -> PermutationSpec:
    """The given specification, if its groups are those of the traced model."""
    if given is None:
        return derived
    mine, theirs = ({g.name: (g.size, g.depends_on) for g in s.groups} for s in (given, derived))
    if mine != theirs:
        name = next(name for name in dict.fromkeys([*mine, *theirs]) if mine.get(name) != theirs.get(name))
        raise SpecMismatchError(
            f"the specification does not fit this model: group {name} is {mine.get(name)} there and "
            f"{theirs.get(name)} here; derive it again"
        )
    return given


def select(spec: PermutationSpec, wanted: Sequence[str] | None) -> list[PermutationGroup]:
    """The groups of the given names or roles; a role covers those that it begins, at a dot."""
    if wanted is None:
        return list(spec.groups)
    unknown = [w for w in wanted if not any(_covers(w, group) for group in spec.groups)]
    if unknown:
        roles = sorted({group.role for group in spec.groups})
        raise SpecMismatchError(f"no group has the name or role {', '.join(unknown)}; the roles are {', '.join(roles)}")
    return [group for group in spec.groups if any(_covers(w, group) for w in wanted)]


def _covers(wanted: str, group: PermutationGroup) -> bool:
    return wanted in (group.name, group.role) or group.role.startswith(f"{wanted}.")


def covering(spec: PermutationSpec) -> Callable[[str, str], bool]:
    """Whether a name or role covers the group of a name; nothing covers a pinned factor."""
    groups = {group.name: group for group in spec.groups}
    return lambda wanted, name: name in groups and _covers(wanted, groups[name])


def pinned_sizes(spec: PermutationSpec) -> dict[str, int]:
    """Sizes of everything that some group depends on."""
    return {name: size for g in spec.groups for name, size in zip(g.depends_on, g.depends_sizes, strict=True)}
