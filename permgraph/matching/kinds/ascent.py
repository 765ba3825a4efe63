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
from permgraph.checkpoints.lazy_state import LazyState, rows_of
from permgraph.matching.kinds.family import Cross, solve
from permgraph.matching.kinds.one import Similarity, best
from permgraph.matching.kinds.places import Place, further_sign, places
from permgraph.matching.weights.effort import EFFORT, SIZES
from permgraph.matching.weights.sites import Action, Family, Site, families, sites
from permgraph.symmetry.parts import Monomial
from permgraph.symmetry.permutations import PermutationGroup, Permutations, followed
from permgraph.symmetry.spec import PermutationSpec

ROUNDS, ROUNDS_IN_TURN = 60, 2  # the second where each is a pass over files
WORTHWHILE = 5e-3  # a round that gains a smaller share of the objective is the last: barriers fall no further
NEAR = 0.99  # of Σ |θ_A| |θ_B|: above it B is A moved, and one more round gains the last digits
Report = Callable[[str, int, int | None], None]


@dataclass
class Ascent:
    """Block coordinate ascent of Σ <θ_A, g θ_B> over permutations, signs and rotations.

    A family's first element is computed from the places at which every other axis is known: at the start those with
    pinned axes (embeddings, positions, a head), then those with axes of families solved before. The start matters more
    than anything else. A family is solved again when others have moved the tensors that it acts on. All products are
    computed in float32; if B turns out to be A moved, maps that mix units are computed again in float64 at the end. In
    large models, the most expensive families wait until the others no longer change.
    """

    spec: PermutationSpec
    groups: Sequence[PermutationGroup]
    a: Mapping[str, Tensor]
    b: Mapping[str, Tensor]
    report: Report | None = None
    rounds: int = ROUNDS
    element: Permutations = field(init=False)
    moved: Mapping[str, Tensor] = field(init=False)
    dtype: torch.dtype = torch.float32
    moves: Counter[str] = field(default_factory=Counter)
    settled: dict[Family, dict[str, int]] = field(default_factory=dict)
    skipped: Set[str] = frozenset()
    solved: set[str] = field(default_factory=set)
    inner: dict[str, tuple[tuple[int, torch.dtype], float]] = field(default_factory=dict)

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
        one, other = (place.units(state[place.name]).double() for state in (self.a, self.moved))
        products = (one * other).sum(-1).reshape(-1, 1, 1).cpu().numpy()
        return Similarity(products, bool(place.move.power % 2), place.further)

    def run(self, known: Iterable[str] = (), held: Container[str] = ()) -> Permutations:
        """The element that moves B. Groups in `known` are right at the start; groups in `held` do not change."""
        self.families = [f for f in self.families if any(group.name not in held for group in f)]
        start, identity = self.value(), (self.element, self.moved)
        known = set(known)
        if large := [family for family in self.families if self._is_large(family)]:
            self._go_ahead(large, known)
        self._grow(self.families, known)
        self._rise(self.families)
        if self.value() > NEAR * self.bound():
            self._finish()
        if self.value() < start:
            self.element, self.moved = identity
        return self.element

    def _is_large(self, family: Family) -> bool:
        units = max(prod(group.table_shape) for group in family)
        return self.is_hurried and units > EFFORT.averaged_above and not isinstance(self.b, LazyState)

    def _go_ahead(self, large: Sequence[Family], known: set[str]) -> None:
        """Solve the other families from the tensors on which no large family acts, until they no longer change."""
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
        """Solve families in turn until a round gains little."""
        value = self.value()
        for number in range(self.rounds):
            if self.report is not None:
                self.report("weights, all kinds", number, self.rounds)
            self._solve_all(families)
            reached = self.value()
            if reached <= value + (EFFORT.worthwhile if self.is_hurried else WORTHWHILE) * abs(value):
                break
            value = reached

    def _solve_all(self, families: Sequence[Family]) -> None:
        for family in families:
            if self.settled.get(family) != self._moves(family):
                self._solve(family, self.sites)
        self._sign()

    def _finish(self) -> None:
        self.dtype, self.settled, self.moved = torch.float64, {}, self.spec.applied(self.element, self.b)
        self._solve_all([family for family in self.families if any(Kind(group.kind).mixes for group in family)])

    def _moves(self, family: Family) -> dict[str, int]:
        """How often each tensor that a family acts on was moved."""
        return {site.name: self.moves[site.name] for site in self._sites_of(family)}

    def _sites_of(self, family: Family) -> list[Site]:
        names = {group.name for group in family}
        return [site for site in self.sites if names & site.names]

    def value(self) -> float:
        """Σ <θ_A, g θ_B> over the parameters that groups act on."""
        names = dict.fromkeys(
            [*(site.name for site in self.sites), *(p.name for g in self.further for p in self.where[g.name])]
        )
        return sum(map(self._inner_of, names))

    def _inner_of(self, name: str) -> float:
        """<θ_A, g θ_B> of one tensor, computed again if it has moved since."""
        now = self.moves[name], self.dtype
        if self.inner.get(name, (None, 0.0))[0] != now:
            self.inner[name] = now, inner(self.a[name], self.moved[name])
        return self.inner[name][1]

    def bound(self) -> float:
        """Σ |θ_A| |θ_B| over these: no element gives more."""
        pairs = ((self.a[name], self.moved[name]) for name in dict.fromkeys(site.name for site in self.sites))
        return sum(math.sqrt(inner(a, a) * inner(b, b)) for a, b in pairs)

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
            if _once(site, names) and all(n in names or n in known for n in site.names if n in mine)
        ]

    def _weight(self, family: Family, here: Sequence[Site]) -> float:
        names = {group.name for group in family}
        whole = sum(prod(leaf.size for leaf in site.cell.leaves) for site in self.sites if names & site.names)
        return sum(prod(leaf.size for leaf in site.cell.leaves) for site in here) / whole if whole else 0.0

    def _solve(self, family: Family, here: Sequence[Site]) -> None:
        names = {group.name for group in family}
        terms = _joined(
            self._cross(site, action) for site in here for action in site.actions if names.intersection(action.axes)
        )
        if terms:
            self._apply(solve(family, terms)[1])
        if set(map(id, self._sites_of(family))) <= set(map(id, here)):
            self.settled[family] = self._moves(family)

    def _apply(self, found: Mapping[str, Any]) -> None:
        self.element = followed(self.spec.groups, self.element, found)
        layouts = self.spec.layouts.items()
        changed = [n for n, one in layouts if n not in self.skipped and not found.keys().isdisjoint(one.groups)]
        self.moves.update(changed)
        self.solved.update(found)
        if isinstance(self.b, LazyState):
            tables = {name: part for name, part in self.element.tables.items() if name in self.solved}
            self.moved = self.spec.on_demand(tables, self.b, self.dtype)
            return
        moved = {name: self.spec.apply_one(found, name, self.moved[name], self.dtype) for name in changed}
        self.moved = {**self.moved, **moved}

    def _cross(self, site: Site, action: Action) -> Cross:
        """Inner products of the units of an action, A against B as it is moved now, over all else at the site."""
        span = site.spans[site.actions.index(action)]
        sides = []
        for state in (self.a, self.moved):
            value = state[site.name] if site.rows is None else rows_of(state, site.name, site.rows)
            value = site.tensor(value).to(self.dtype)
            rest = [k for k in range(value.dim()) if k not in span]
            count = prod(value.shape[k] for k in span)
            sides.append(value.permute([*span, *rest]).reshape(count, -1))
        matrix = (sides[0] @ sides[1].T).cpu().numpy()
        return Cross(action.axes, matrix.reshape(site.sizes(action) * 2), *_signs(site, action))

    def _sign(self) -> None:
        """Each further sign of a unit is that of the inner product where it acts."""
        for group in self.further:
            if any(place.name in self.skipped for place in self.where[group.name]):
                continue
            total: Any = np.zeros(group.count)
            for place in self.where[group.name]:
                if place.move.power % 2:
                    total = total + self._products(place)
            if np.any(total < 0):
                index = np.zeros(group.table_shape, dtype=np.int64)
                self._apply({group.name: Monomial(index, np.where(total < 0, -1.0, 1.0).reshape(group.table_shape))})

    def _products(self, place: Place) -> Any:
        one, other = (place.units(state[place.name]).double() for state in (self.a, self.moved))
        return (one * other).sum((1, 2)).cpu().numpy()


def _once(site: Site, names: Set[str]) -> bool:
    """Whether these groups act on only one axis, so that the site determines them without another unknown."""
    return sum(not names.isdisjoint(action.axes) for action in site.actions) == 1


def inner(a: Tensor, b: Tensor) -> float:
    """<a, b> in float64, some elements at a time."""
    sides = (x.reshape(-1).chunk(-(-x.numel() // SIZES.slab) or 1) for x in (a, b))
    return sum(float(torch.dot(x.double(), y.double())) for x, y in zip(*sides, strict=True))


def _signs(site: Site, action: Action) -> tuple[frozenset[str], dict[str, str]]:
    """The groups of an action whose sign reaches the site, and the further sign of a group's units there."""
    odd, further = set[str](), dict[str, str]()
    for name, leaves in zip(action.axes, action.units, strict=True):
        for move in site.cell.moves:
            if move.group == name and move.leaves == leaves:
                odd |= {name} if move.power % 2 else set()
                further |= {name: other} if (other := further_sign(site.cell, move)) else {}
    return frozenset(odd), further


def _joined(terms: Iterable[Cross]) -> list[Cross]:
    """Terms of the same form added up, each as soon as it is computed."""
    found: dict[Any, Cross] = {}
    for term in terms:
        key = term.names, term.odd, tuple(sorted((term.further or {}).items()))
        if key in found:
            np.add(found[key].matrix, term.matrix, out=found[key].matrix)
        else:
            found[key] = term
    return list(found.values())
