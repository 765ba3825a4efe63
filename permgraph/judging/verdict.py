"""Judges a rule by its operation: claims that are wrong, and freedom that is missed."""

from __future__ import annotations

from dataclasses import dataclass

from permgraph.judging.changes import Changes, Missed
from permgraph.judging.one_call import Axis, OneCall, equal
from permgraph.judging.swaps import missed_swaps
from permgraph.rules.example import Example
from permgraph.symmetry.derivation.derive import derive
from permgraph.symmetry.specification.spec import PermutationSpec

STATES = 5  # operands for which a change must hold: with few, a maximum hides changes of smaller elements
KINDS = ("permutation", "signed", "all")


@dataclass(frozen=True)
class Verdict:
    """How the claim of a rule compares with the operation.

    Attributes:
        example: the call.
        order: log10 of the order of the group of permutations.
        wrong: (kinds, seed) of the elements that change the result.
        missed: sets of axes whose swap is missed.

    """

    example: Example
    order: float
    wrong: tuple[tuple[str, int], ...]
    missed: tuple[tuple[Axis, ...], ...]


def judge(example: Example, trials: int = 5, *, swaps: bool = True) -> Verdict:
    """Compare the claim of the rule with the operation, and look for swaps that it lacks."""
    call = OneCall(example).eval()
    state = {name: value.detach() for name, value in call.named_parameters()}
    claims = {kinds: _claim(call, kinds) for kinds in KINDS}
    before = call.results(state)
    wrong = []
    for kinds, spec in claims.items():
        for seed in range(trials):
            element = spec.sample(seed)
            expected = spec.apply_outputs(element, before)
            if not equal(expected, call.results(spec.apply(element, state))):
                wrong.append((kinds, seed))
    spec = claims["permutation"]
    missed = tuple(missed_swaps(call, spec, state)) if swaps else ()
    return Verdict(example, spec.log10_order, tuple(wrong), missed)


def missed_changes(example: Example) -> tuple[Missed, ...]:
    """The changes of signs, scales and mixtures that the operation allows, and the claim with all kinds lacks."""
    call = OneCall(example).eval()
    states = [
        {name: value.detach() for name, value in OneCall(example, seed).named_parameters()} for seed in range(STATES)
    ]
    return tuple(Changes(call, _claim(call, "all"), states).missed())


def _claim(call: OneCall, kinds: str) -> PermutationSpec:
    return derive(call, call.inputs, outputs="free", kinds=kinds)
