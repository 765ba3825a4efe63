"""Matching of balanced models by weights: families of groups are solved one after the other until none gains."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from permgraph.algebra.kinds import Kind
from permgraph.checkpoints.lazy_state import LazyState
from permgraph.matching.kinds.crosses import cross, inner, is_once, joined, value_of, without
from permgraph.matching.kinds.family import solve
from permgraph.matching.kinds.one import Similarity, best
from permgraph.matching.kinds.places import Place, places
from permgraph.matching.weights.effort import EFFORT, SIZES
from permgraph.matching.weights.sites import Family, Site, families, sites
from permgraph.symmetry.elements.parts import Matrix, Monomial
from permgraph.symmetry.elements.permutations import PermutationGroup, Permutations, followed
from permgraph.symmetry.specification.spec import PermutationSpec

ROUNDS, ROUNDS_IN_TURN = 60, 2  # the second where each is a pass over files
WORTHWHILE = 5e-3  # a round that gains a smaller share of the objective is the last: barriers fall no further
WORTHWHILE_IF_HURRIED = 0.1  # the same in large models: barriers of small ones are as low with it
NEAR = 0.99  # of Σ |θ_A| |θ_B|: above it B is A moved, and one more round gains the last digits
Report = Callable[[str, int, int | None], None]


@dataclass
class Ascent:
    """Block coordinate ascent of Σ <θ_A, g θ_B> over permutations, signs and rotations.

    A family's first element is computed from the places at which every other axis is known: at the start those with
    pinned axes (embeddings, positions, a head), then those with axes of families solved before. The start matters more
    than anything else. A family is solved again when others have moved the tensors that it acts on. All products are
    computed in float32; if B turns out to be A moved, maps that mix units are computed again at the end, with all
    digits that are stored. In large models, the most expensive families wait until the others change little, and are
    solved once, and a round that cannot gain enough, by the `bound`, is not begun.
    If weights are read on demand, the passes over them count: B is moved from its `source` by one element, which starts
    with `begun`; what a step gains is computed from the step's own products; and a rotation that is a family by itself
    is found from B without it. Tensors in `compared` stand for activations: they do not tell whether B is A moved.
    """

    spec: PermutationSpec
    groups: Sequence[PermutationGroup]
    a: Mapping[str, Tensor]
    b: Mapping[str, Tensor]
    report: Report | None = None
    rounds: int = ROUNDS
    source: Mapping[str, Tensor] | None = None
    begun: Mapping[str, Any] | None = None
    compared: Container[str] = ()
    element: Permutations = field(init=False)
    moved: Mapping[str, Tensor] = field(init=False)
    dtype: torch.dtype = torch.float32
    moves: Counter[str] = field(default_factory=Counter)
    settled: dict[Family, dict[str, int]] = field(default_factory=dict)
    skipped: Set[str] = frozenset()
    solved: set[str] = field(default_factory=set)
    inner: dict[str, tuple[tuple[int, torch.dtype], float]] = field(default_factory=dict)
    known_value: float | None = None
    most: float = math.inf

    def __post_init__(self) -> None:
        self.main = [group for group in self.groups if group.size > 1]
        self.further = [group for group in self.groups if group.size == 1 and group.kind in ("signed", "monomial")]
        self.sites = [part for site in sites(self.spec, self.main) for part in site.cut(SIZES.whole)]
        self.families = families(self.main)
        self.where = places(self.spec, [group.name for group in self.groups])
        self.element, self.moved = self.spec.identity(), self.b
        self.is_hurried = sum(site.cell.size for site in self.sites) > EFFORT.hurried_above

    def settle(self, found: Mapping[str, Any]) -> None:
        """Move B by parts of groups that are already known."""
        depending = [g.name for g in self.main if found.keys() & set(g.depends_on) and g.name not in found]
        identity = {group.name: group.identity() for group in self.main if group.name in depending}
        self._apply({**identity, **found})

    def sign_again(self, names: Container[str]) -> None:
        """Choose the signs of the units of these groups anew, by weights, with the further signs of these units."""
        for group in self.main:
            if group.name in names and group.kind in ("signed", "monomial"):
                given = [self._sign_of(place) for place in self.where[group.name]]
                part, _ = best(group.kind, 1, given)
                index = np.broadcast_to(np.arange(group.size), group.table_shape)
                self._apply({group.name: Monomial(index, part.scale.reshape(group.table_shape))})

    def _sign_of(self, place: Place) -> Similarity:
        """Inner products of units with themselves at a place, and which signs reach it."""
        return Similarity(self._products(place).reshape(-1, 1, 1), bool(place.move.power % 2), place.further)

    def run(self, known: Iterable[str] = (), held: Container[str] = ()) -> Permutations:
        """The element that moves B. Groups in `known` are right at the start; groups in `held` do not change."""
        self.families = [f for f in self.families if any(group.name not in held for group in f)]
        (start, self.most), identity = self._unmoved(), (self.element, self.moved)
        known = set(known)
        if large := [family for family in self.families if self._is_large(family)]:
            self._go_ahead(large, known)
        self._grow(self.families, known)
        self._rise(self.families)
        if self._of_weights() > NEAR * self.most:
            self._finish()
        if self.value() < start:
            self.element, self.moved = identity
        return self.element

    def _is_large(self, family: Family) -> bool:
        units = max(prod(group.table_shape) for group in family)
        return self.is_hurried and units > EFFORT.averaged_above and not isinstance(self.b, LazyState)

    def _go_ahead(self, large: Sequence[Family], known: set[str]) -> None:
        """Solve the other families from the tensors on which no large family acts, until a round gains little."""
        names, every = {group.name for family in large for group in family}, self.sites
        self.sites = [site for site in every if not names & site.names]
        self.skipped = {site.name for site in every} - {site.name for site in self.sites}
        first = [family for family in self.families if self._sites_of(family)]
        self._grow(first, known)
        self._rise(first)
        late = {name: self.spec.apply_one(self.element, name, self.b[name], self.dtype) for name in self.skipped}
        self.sites, self.skipped, self.settled, self.moved = every, frozenset(), {}, {**self.moved, **late}
        self.inner.clear()

    def _rise(self, families: Sequence[Family]) -> None:
        """Solve families in turn until a round gains little, or could."""
        value, worthwhile = self.value(), WORTHWHILE_IF_HURRIED if self.is_hurried else WORTHWHILE
        for number in range(self.rounds):
            if self.is_hurried and not self.compared and value + worthwhile * abs(value) >= self.most:
                break
            if self.report is not None:
                self.report("weights, all kinds", number, self.rounds)
            self._solve_all(families)
            reached = self.value()
            if reached <= value + worthwhile * abs(value):
                break
            value = reached

    def _solve_all(self, families: Sequence[Family]) -> None:
        for family in families:
            is_enough = self._is_large(family) and family in self.settled
            if not is_enough and self.settled.get(family) != self._moves(family):
                self._solve(family, self.sites)
        self._sign()

    def _finish(self) -> None:
        if (exact := self.b.least if isinstance(self.b, LazyState) else torch.float64) != self.dtype:
            self.dtype, self.settled = exact, {}
            self.moved = self._moved_by(self.element) if self._on_demand else self.spec.apply(self.element, self.b)
        self._solve_all([family for family in self.families if any(Kind(group.kind).mixes for group in family)])

    def _moves(self, family: Family) -> dict[str, int]:
        """How often each tensor that a family acts on was moved."""
        return {site.name: self.moves[site.name] for site in self._sites_of(family)}

    def _sites_of(self, family: Family) -> list[Site]:
        names = {group.name for group in family}
        return [site for site in self.sites if names & site.names]

    def value(self) -> float:
        """Σ <θ_A, g θ_B> over the parameters that groups act on."""
        if self.known_value is not None:
            return self.known_value
        value = sum(map(self._inner_of, self._names))
        self.known_value = value if self._on_demand else None
        return value

    @property
    def bound(self) -> float:
        """Σ |θ_A| |θ_B| over the weights that groups act on: no element gives more."""
        return self._unmoved()[1]

    @property
    def _names(self) -> dict[str, None]:
        further = (place.name for group in self.further for place in self.where[group.name])
        return dict.fromkeys([*(site.name for site in self.sites), *further])

    @property
    def _on_demand(self) -> bool:
        return isinstance(self.b, LazyState)

    def _inner_of(self, name: str) -> float:
        """<θ_A, g θ_B> of one tensor, computed again if it has moved since."""
        now = self.moves[name], self.dtype
        if self.inner.get(name, (None, 0.0))[0] != now:
            self.inner[name] = now, inner(name, self.a, self.moved)[1]
        return self.inner[name][1]

    def _of_weights(self) -> float:
        """`value` without activations."""
        names = [name for name in self._names if name not in self.compared]
        return self.value() if len(names) == len(self._names) else sum(map(self._inner_of, names))

    def _unmoved(self) -> tuple[float, float]:
        """`value` before anything moves, and Σ |θ_A| |θ_B| over the sites' weights: no element gives more."""
        sites, value, bound = {site.name for site in self.sites if site.name not in self.compared}, 0.0, 0.0
        for name in self._names:
            one, product, other = inner(name, self.a, self.moved)
            value += product
            bound += math.sqrt(one * other) if name in sites else 0.0
        return value, bound

    def _grow(self, families: Sequence[Family], known: set[str]) -> None:
        """Solve each family once; next comes the one with the largest share of its weights at known places."""
        left = [family for family in families if not known.issuperset(group.name for group in family)]
        while left:
            usable = [self._usable(family, known) for family in left]
            shares = [self._weight(family, here) for family, here in zip(left, usable, strict=True)]
            k = int(np.argmax(shares))
            family = left.pop(k)
            self._solve(family, usable[k] if shares[k] > 0 else self.sites)
            known |= {group.name for group in family}
        self._sign()

    def _usable(self, family: Family, known: set[str]) -> list[Site]:
        names = {group.name for group in family}
        mine = {group.name for group in self.main}
        return [
            site
            for site in self.sites
            if is_once(site, names) and all(n in names or n in known for n in site.names if n in mine)
        ]

    def _weight(self, family: Family, here: Sequence[Site]) -> float:
        names = {group.name for group in family}
        whole = sum(prod(leaf.size for leaf in site.cell.leaves) for site in self.sites if names & site.names)
        return sum(prod(leaf.size for leaf in site.cell.leaves) for site in here) / whole if whole else 0.0

    def _solve(self, family: Family, here: Sequence[Site]) -> None:
        names = {group.name for group in family}
        here = [site for site in here if names & site.names]
        whole = set(map(id, self._sites_of(family))) <= set(map(id, here))
        rotation = self._rotation(family)
        moved = self.moved if rotation is None else self._moved_by(without(self.element, names))
        terms = joined(
            cross(site, action, (self.a, moved), self.dtype)
            for site in here
            for action in site.actions
            if names.intersection(action.axes)
        )
        if terms:
            is_known = whole and self._on_demand and all(is_once(site, names) for site in here)
            now = value_of(terms, rotation) if is_known else None
            value, found = solve(family, terms)
            if rotation is not None:
                self.element = Permutations({**self.spec.identity(), **without(self.element, names)})
            self._apply(found, None if now is None else value - now)
        if whole:
            self.settled[family] = self._moves(family)

    def _rotation(self, family: Family) -> Matrix | None:
        """Of weights on demand, the rotation that is all of a family, where it was found before."""
        name = family[0].name
        alone = len(family) == 1 and Kind(family[0].kind).mixes
        return self.element[name] if self._on_demand and alone and name in self.solved else None

    def _apply(self, found: Mapping[str, Any], gain: float | None = None) -> None:
        """Move B by what was found; `gain` is what that adds to the value, where it is known."""
        known = self.known_value
        self.known_value = None if known is None or gain is None else known + gain
        self.element = followed(self.spec.groups, self.element, found)
        layouts = self.spec.layouts.items()
        changed = [n for n, one in layouts if n not in self.skipped and not found.keys().isdisjoint(one.groups)]
        self.moves.update(changed)
        self.solved.update(found)
        if self._on_demand:
            self.moved = self._moved_by(self.element)
            return
        moved = {name: self.spec.apply_one(found, name, self.moved[name], self.dtype) for name in changed}
        self.moved = {**self.moved, **moved}

    def _moved_by(self, element: Mapping[str, Any]) -> Mapping[str, Tensor]:
        """B's tensors on demand, each read from its source and moved by one element."""
        source, begun = self.b if self.source is None else self.source, self.begun
        assert isinstance(source, LazyState)
        own = {name: part for name, part in element.items() if name in self.solved}
        whole = own if begun is None else followed(self.spec.groups, begun, own)
        return self.spec.on_demand(whole, source, self.dtype)

    def _sign(self) -> None:
        """Each further sign of a unit is that of the inner product where it acts."""
        for group in self.further:
            if any(place.name in self.skipped for place in self.where[group.name]):
                continue
            total: Any = np.zeros(group.count)
            for place in self.where[group.name]:
                if place.move.power % 2:
                    total = total + self._products(place).sum(1)
            if np.any(total < 0):
                index = np.zeros(group.table_shape, dtype=np.int64)
                self._apply({group.name: Monomial(index, np.where(total < 0, -1.0, 1.0).reshape(group.table_shape))})

    def _products(self, place: Place) -> Any:
        """[rows, units]: inner products of units with themselves."""
        one, other = (place.units(state[place.name]).double() for state in (self.a, self.moved))
        return (one * other).sum(-1).cpu().numpy()
