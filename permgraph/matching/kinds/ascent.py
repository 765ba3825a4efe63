"""Matching of balanced models by weights: families of groups are solved one after the other until none gains."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from math import prod
from typing import Any

import numpy as np
from torch import Tensor

from permgraph.algebra.kinds import Kind
from permgraph.checkpoints.lazy_state import LazyState
from permgraph.matching.kinds.crosses import cross, inner_and_squares, is_once, joined, value_of, without
from permgraph.matching.kinds.determined import clear, projections
from permgraph.matching.kinds.family import solve
from permgraph.matching.kinds.known import is_scarce, rank, share, usable
from permgraph.matching.kinds.moved import Moved
from permgraph.matching.kinds.places import further_signs, places, signs_inside
from permgraph.matching.kinds.signing import Signing
from permgraph.matching.kinds.terms import Cross
from permgraph.matching.kinds.wide import solve_wide
from permgraph.matching.weights.effort import EFFORT, SIZES
from permgraph.matching.weights.sites import Family, Site, families, sites
from permgraph.matching.weights.wide import wide_groups
from permgraph.symmetry.elements.parts import Matrix
from permgraph.symmetry.elements.permutations import PermutationGroup, Permutations
from permgraph.symmetry.specification.spec import PermutationSpec

ROUNDS, ROUNDS_IN_TURN = 60, 2  # the second where each is a pass over files
WORTHWHILE = 5e-3  # a round that gains a smaller share of the objective is the last: barriers fall no further
WORTHWHILE_IF_HURRIED = 0.1  # the same in large models: barriers of small ones are as low with it
DETERMINED = 4  # times that what was found from too few places is found again
Report = Callable[[str, int, int | None], None]


@dataclass
class Ascent:
    """Block coordinate ascent of Σ <θ_A, g θ_B> over permutations, signs and rotations.

    A family's first element is computed from the places at which every other axis is known: at the start those with
    pinned axes (embeddings, positions, a head), then those with axes of families solved before. The start matters more
    than anything else. A family is solved again when others have moved the tensors that it acts on. All products are
    computed in float32. In large models, the most expensive families wait until the others change little, and are
    solved once, and a round that cannot gain enough, by the `bound`, is not begun. Of weights that are read on demand
    (`source` and `begun`, see `Moved`), what a step gains is computed from the step's own products, and a rotation that
    is a family by itself is found from B without it. Tensors in `compared`, with their bounds, stand for activations:
    they do not tell whether B is A moved.
    """

    spec: PermutationSpec
    groups: Sequence[PermutationGroup]
    a: Mapping[str, Tensor]
    b: Mapping[str, Tensor]
    report: Report | None = None
    rounds: int = ROUNDS
    source: Mapping[str, Tensor] | None = None
    begun: Mapping[str, Any] | None = None
    compared: Mapping[str, float] = field(default_factory=dict)
    placed: Moved = field(init=False)
    settled: dict[Family, dict[str, int]] = field(default_factory=dict)
    held: Container[str] = ()
    faint: dict[str, Matrix] = field(default_factory=dict)
    most: float = math.inf

    def __post_init__(self) -> None:
        self.signs = further_signs(self.groups)
        inside = signs_inside(self.groups)
        self.beside = self.signs - inside
        self.main = [group for group in self.groups if group.size > 1 or group.name in inside]
        self.further = [group for group in self.groups if group.name in self.signs]
        self.families = families(self.main)
        self._look_at([part for site in sites(self.spec, self.main) for part in site.cut(SIZES.whole)])
        self.where = places(self.spec, [group.name for group in self.groups])
        self.placed, self.waiting = Moved(self.spec, self.a, self.b, self.source, self.begun), frozenset[str]()
        self.signing = Signing(self.groups, self.where, self.placed)
        ordered = [group for group in self.main if group.depends_on or group.kind == "permutation"]
        self.wide = wide_groups(ordered, self.sites, SIZES.wide_above)
        self.is_hurried = sum(site.cell.size for site in self.sites) > EFFORT.hurried_above

    @property
    def element(self) -> Permutations:
        """What B was moved by."""
        return self.placed.element

    @property
    def moved(self) -> Mapping[str, Tensor]:
        """B's weights under the element."""
        return self.placed.state

    def settle(self, found: Mapping[str, Any]) -> None:
        """Move B by parts of groups that are already known."""
        depending = [g.name for g in self.main if found.keys() & set(g.depends_on) and g.name not in found]
        identity = {group.name: group.identity() for group in self.main if group.name in depending}
        self.placed.apply({**identity, **found})

    def run(self, known: Iterable[str] = (), held: Container[str] = ()) -> Permutations:
        """The element that moves B. Groups in `known` are right at the start; groups in `held` do not change."""
        self.held = held
        self.families = [f for f in self.families if any(group.name not in held for group in f if group.size > 1)]
        (start, self.most), begun = self._unmoved(), self.element
        known = set(known)
        if large := [family for family in self.families if self._is_large(family)]:
            self._go_ahead(large, known)
        self._grow(self.families, known)
        self._rise(self.families)
        if self.value() < start:
            self.placed.go_back(begun)
        return self.element

    def _is_large(self, family: Family) -> bool:
        units = max(prod(group.table_shape) for group in family)
        return self.is_hurried and units > EFFORT.averaged_above and not isinstance(self.b, LazyState)

    def _go_ahead(self, large: Sequence[Family], known: set[str]) -> None:
        """Solve the other families from the tensors on which no large family acts, until a round gains little."""
        names, every = {group.name for family in large for group in family}, self.sites
        self._look_at([site for site in every if not names & site.names])
        self.waiting = frozenset(site.name for site in every) - {site.name for site in self.sites}
        first = [family for family in self.families if self.acting[family]]
        self._grow(first, known)
        self._rise(first)
        self._look_at(every)
        self.waiting, self.settled = frozenset(), {}

    def _rise(self, families: Sequence[Family]) -> None:
        """Solve families in turn until a round gains little, or could."""
        value, worthwhile = self.value(), WORTHWHILE_IF_HURRIED if self.is_hurried else WORTHWHILE
        for number in range(self.rounds):
            if self.is_hurried and not self.compared and value + worthwhile * abs(value) >= self.most:
                break
            if self.report is not None:
                self.report("weights, all kinds", number, self.rounds)
            self.solve_all(families)
            reached = self.value()
            if reached <= value + worthwhile * abs(value):
                break
            value = reached

    def solve_all(self, families: Sequence[Family]) -> None:
        """Solve families in turn whose tensors others have moved, and all signs."""
        for family in families:
            is_enough = self._is_large(family) and family in self.settled
            if not is_enough and self.settled.get(family) != self._moves(family):
                self._solve(family, self.acting[family])
        self._sign()

    def release(self) -> None:
        """Let all groups move again."""
        self.held, self.families, self.settled = (), families(self.main), {}
        self._look_at(self.sites)

    def _moves(self, family: Family) -> dict[str, int]:
        """How often each tensor that a family acts on was moved."""
        return {site.name: self.placed.moves[site.name] for site in self.acting[family]}

    def _look_at(self, sites: Sequence[Site]) -> None:
        """Compare A and B at these sites alone; `acting` has those of each family."""
        self.sites, self.acting = sites, {family: list[Site]() for family in self.families}
        owner = {group.name: family for family in self.families for group in family}
        for site in sites:
            for family in dict.fromkeys(owner[name] for name in site.names if name in owner):
                self.acting[family].append(site)

    def value(self) -> float:
        """Σ <θ_A, g θ_B> over the parameters that groups act on."""
        return self.placed.value(self.names)

    @property
    def bound(self) -> float:
        """Σ |θ_A| |θ_B| over the weights that groups act on: no element gives more."""
        return self._unmoved()[1]

    @property
    def names(self) -> dict[str, None]:
        """The tensors that groups act on."""
        further = (place.name for group in self.further for place in self.where[group.name])
        return dict.fromkeys([*(site.name for site in self.sites), *further])

    def share(self) -> float:
        """`value` as a share of `most`, without activations: 1 where B is A moved."""
        names = [name for name in self.names if name not in self.compared]
        value = self.value() if len(names) == len(self.names) else self.placed.product(names)
        return value / self.most if self.most else 0.0

    def _unmoved(self) -> tuple[float, float]:
        """`value` before anything moves, and Σ |θ_A| |θ_B| over its weights: no element gives more."""
        value = bound = 0.0
        for name in self.names:
            product, *squares = inner_and_squares(name, self.a, self.moved)
            value += product
            bound += 0.0 if name in self.compared else math.sqrt(prod(squares))
        return value, bound

    def _grow(self, families: Sequence[Family], known: set[str]) -> None:
        """Solve each family once; next comes the one with the largest share of its weights at known places."""
        left = [family for family in families if not known.issuperset(group.name for group in family)]
        known |= self._sign(known=known)
        while left:
            places = [self._usable(family, known) for family in left]
            shares = [share(here, self.acting[family]) for family, here in zip(left, places, strict=True)]
            k = int(np.argmax(shares))
            family = left.pop(k)
            self._solve(family, places[k] if shares[k] > 0 else self.acting[family], growing=True)
            known |= {group.name for group in family}
            known |= self._sign({group.name for group in family}, known)
            self._determine([one for one in families if one not in left], known)
        self.faint = {}
        self._sign()

    def _determine(self, families: Sequence[Family], known: set[str]) -> None:
        """Solve families again that were found from too few places, from all that are known now."""
        for _ in range(DETERMINED):
            faint = self.faint
            for family in families:
                if any(group.name in faint for group in family):
                    self._solve(family, self._usable(family, known), growing=True)
            if all(name in self.faint and rank(self.faint[name]) <= rank(part) for name, part in faint.items()):
                break

    def _usable(self, family: Family, known: Set[str]) -> list[Site]:
        unknown = ({group.name for group in self.main} | self.signs) - known
        return usable(self.acting[family], {group.name for group in family}, unknown)

    def _solve(self, family: Family, here: Sequence[Site], *, growing: bool = False) -> None:
        names = {group.name for group in family}
        whole = set(map(id, self.acting[family])) <= set(map(id, here))
        rotation, faint = self._rotation(family), without(self.faint, names)
        moved = self.moved if rotation is None else self.placed.under(without(self.element, names))
        if self.wide.issuperset(names):
            gain, found = solve_wide(family, here, (self.a, moved), self.placed.dtype, self.beside)
            self.placed.apply(found, gain if whole and self.placed.on_demand else None)
        elif terms := joined(self._terms(names, here, moved, faint)):
            is_known = whole and self.placed.on_demand and all(is_once(site, names) for site in here)
            now = value_of(terms, rotation) if is_known else None
            value, found = solve(family, terms)
            if growing and not self.placed.on_demand:
                self.faint = faint | (projections(family, terms, found) if is_scarce(family, here, faint) else {})
            if rotation is not None:
                self.placed.element = Permutations({**self.spec.identity(), **without(self.element, names)})
            self.placed.apply(found, None if now is None else value - now)
        if whole and not faint:
            self.settled[family] = self._moves(family)

    def _terms(
        self, names: Set[str], here: Sequence[Site], moved: Mapping[str, Tensor], faint: Mapping[str, Matrix]
    ) -> Iterator[Cross]:
        """Products of A, without directions that are not determined, with B, `moved`, where a family acts."""
        turning: dict[str, dict[str, Any]] = {}
        for name, together in groupby(here, lambda site: site.name):
            if group := self.placed.turning.get(name):
                turning.setdefault(group, {})[name] = partial(self.crosses, names, list(together), faint)
            else:
                yield from self.crosses(names, together, faint, moved)
        yield from (self.placed.turned(group, products) for group, products in turning.items())

    def crosses(
        self, names: Set[str], here: Iterable[Site], faint: Mapping[str, Matrix], b: Mapping[str, Tensor]
    ) -> Iterator[Cross]:
        """Products of A, without directions in `faint`, with `b`, where groups of these names act."""
        for site in here:
            states = clear(self.spec, site, self.a, faint), b
            for action in site.actions:
                if not names.isdisjoint(action.axes):
                    yield cross(site, action, states, self.placed.dtype, self.beside)

    def _rotation(self, family: Family) -> Matrix | None:
        """Of weights on demand, the rotation that is all of a family, where it was found before."""
        name = family[0].name
        alone = len(family) == 1 and Kind(family[0].kind).mixes
        return self.element[name] if self.placed.on_demand and alone and name in self.placed.solved else None

    def _sign(self, near: Set[str] | None = None, known: Set[str] | None = None) -> set[str]:
        """Signs that meet, and further signs of units, are those of most inner product where they act; which they are.

        `near`: those alone that act where one of these groups does. `known`: from places where no other group acts.
        """
        unknown = set() if known is None else {group.name for group in self.main} - known
        return self.signing.sign(self.held, self.waiting, unknown, near)
