"""What each group gained: its objective at the identity and at the solution, and its upper bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from permgraph.assignment.solve import Term, breakdown
from permgraph.symmetry.elements.permutations import PermutationGroup

CORRELATION, WEIGHTS, MIX = "correlation", "weights", "mix"


@dataclass(frozen=True)
class Gain:
    """The objective of one group, at the identity and at the solution, summed over all points or weights compared.

    Attributes:
        identity: before the units are moved. By weights and by a mix only the group's family is at the identity, and
            the others are at the solution. In all kinds both models have been brought to their smallest norm.
        solution: after.
        bound: no element of the group exceeds it.
        measure: what was measured. CORRELATION: the mean signed correlation of matched units, 1 for the same function
            in another order; of units that mix, the overlap of their activations. WEIGHTS: the sum of inner products
            of matched weights. MIX: both, as a share of the bound. Groups that occur in no activation are measured by
            weights, as a share of the bound. "" for matchers that do not say.

    """

    identity: float
    solution: float
    bound: float
    measure: str = ""

    @property
    def gained(self) -> float:
        """Solution minus identity."""
        return self.solution - self.identity

    @property
    def shares(self) -> tuple[float, float]:
        """Identity and solution as shares of the bound, where it is above 0."""
        unit = self.bound if self.bound > 0 else 1.0
        return self.identity / unit, self.solution / unit

    @property
    def of_bound(self) -> Gain:
        """The same as shares of the bound, which is 1 then, or 0 where nothing is compared."""
        return Gain(*self.shares, 1.0 if self.bound > 0 else self.bound, self.measure)


def correlation_gains(
    groups: Sequence[PermutationGroup], terms: Sequence[Term], found: Mapping[str, Any]
) -> dict[str, Gain]:
    """Mean signed correlation of matched units, weighted as the terms are; groups without a term have no gain."""
    identity = {group.name: group.identity() for group in groups}
    before, after = breakdown(groups, terms, identity), breakdown(groups, terms, found)
    pairs = {g.name: sum(_pairs(term) for term in terms if g.name in term.groups) for g in groups}
    return {
        name: Gain(before[name] / count, after[name] / count, 1.0, CORRELATION)
        for name, count in pairs.items()
        if count
    }


def _pairs(term: Term) -> float:
    return term.weight * prod(term.matrix.shape[: len(term.groups)])
