"""B moved by signs alone: those of most inner product with A at the weights where they act."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from permgraph.matching.kinds.moved import Moved
from permgraph.matching.kinds.one import Similarity, best
from permgraph.matching.kinds.places import Place, further_sign, further_signs, signs_inside
from permgraph.matching.kinds.signs import Signs, Term, cells_of, chosen, met
from permgraph.symmetry.elements.parts import Monomial
from permgraph.symmetry.elements.permutations import PermutationGroup


@dataclass
class Signing:
    """The signs of all groups, and B, which they move. `met` are the sets of signs that are chosen at once."""

    groups: Sequence[PermutationGroup]
    where: Mapping[str, Sequence[Place]]
    placed: Moved

    def __post_init__(self) -> None:
        self.met = met(self.groups, self.where)

    def sign(
        self, held: Container[str], waiting: Set[str], unknown: Set[str], near: Set[str] | None = None
    ) -> set[str]:
        """Choose signs that meet, and further signs of units; the groups whose signs were chosen.

        Args:
            held: groups whose signs stay.
            waiting: tensors that are not compared yet, nor are signs that act on them chosen.
            unknown: groups that are not placed yet; weights on which they act do not count.
            near: if given, signs alone that act where one of these groups does.

        """
        found = set[str]()
        for every in self.met:
            members = {one.group.name: one for one in every if one.group.name not in held}
            cells = cells_of(members.values(), self.where)
            if near is not None and all(near.isdisjoint(m.group for m in place.cell.moves) for _, place in cells):
                continue
            if not any(place.name in waiting for _, place in cells):
                found |= self.choose(members, self.terms_of(members, unknown))
        return found

    def again(self, names: Container[str]) -> None:
        """Choose the signs of the units of these groups anew, with the further signs of these units."""
        further, inside = further_signs(self.groups), signs_inside(self.groups)
        for group in self.groups:
            has_own = group.kind in ("signed", "monomial") and (group.size > 1 or group.name in inside)
            if has_own and group.name in names:
                given = [
                    Similarity(
                        self._products(place).reshape(-1, 1, 1),
                        bool(place.move.power % 2),
                        further_sign(place.cell, place.move, further),
                    )
                    for place in self.where[group.name]
                ]
                part, _ = best(group.kind, 1, given)
                self._apply(group.name, part.scale.reshape(group.table_shape))

    def terms_of(self, members: Mapping[str, Signs], unknown: Set[str] = frozenset()) -> Iterator[Term]:
        """Where signs act on weights, but for places where `unknown` groups act: inner products of A and B there."""
        for names, place in cells_of(members.values(), self.where):
            if unknown.isdisjoint(move.group for move in place.cell.moves):
                yield names, members[place.move.group], self._products(place)

    def choose(self, members: Mapping[str, Signs], terms: Iterable[Term]) -> Set[str]:
        """Move B by the signs of these members for which the terms are large; the members that occur in any."""
        found = chosen(list(members.values()), terms)
        for name, signs in found.items():
            if np.any(signs < 0):
                self._apply(name, signs)
        return found.keys()

    def _apply(self, name: str, signs: Any) -> None:
        index = np.broadcast_to(np.arange(signs.shape[-1]), signs.shape)
        self.placed.apply({name: Monomial(index, signs)})

    def _products(self, place: Place) -> Any:
        """[rows, units]: inner products of units with themselves."""
        states = self.placed.a, self.placed.state
        one, other = (place.units(state[place.name]).double() for state in states)
        return (one * other).sum(-1).cpu().numpy()
