"""Further signs that weights tell before units are matched: for each unit of A with each of B.

The weight of a norm gives the units of a stream a sign that the stream itself has not. Activations behind the norm tell
its product with the sign of their correlation; chosen by these alone, it makes the negative correlation of two units
count as a match, and the merged norm has weights near 0 there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod

import numpy as np
from torch import Tensor

from permgraph.algebra.kinds import Kind
from permgraph.algebra.matrices import Numbers
from permgraph.matching.kinds.places import Place, further_sign, further_signs, places
from permgraph.matching.kinds.terms import Cross
from permgraph.symmetry.elements.permutations import PermutationGroup
from permgraph.symmetry.specification.spec import PermutationSpec

MOST = 0.9
"""The share of all pairs of units for which the weights of a norm must have one sign; signs of biases are random."""


class ToldSigns:
    """Signs at the weights on which no other units move, such as those of norms and biases, of two balanced models."""

    def __init__(
        self,
        spec: PermutationSpec,
        groups: Sequence[PermutationGroup],
        a: Mapping[str, Tensor],
        b: Mapping[str, Tensor],
    ) -> None:
        self.a, self.b, self.signs = a, b, further_signs(groups)
        self.groups = {group.name: group for group in groups}
        every = places(spec, list(self.groups))
        self.where = {name: [*filter(_is_alone, here)] for name, here in every.items()}
        self.bare = {name for name, here in every.items() if any(place.move.power == 0 for place in here)}

    def into(self, term: Cross) -> Cross:
        """The term times the signs that weights tell, in place of signs that were to be chosen with units.

        These are further signs, and those of units that have weights without them too. Where a unit's own sign is known
        with a further one, in their product alone, both stay.
        """
        matrix, odd, further = term.matrix, set(term.odd), dict(term.further or {})
        for name in term.names:
            own = name in odd and self._has_sign(name)
            if own == (name in further) or (own and name not in self.bare):
                continue
            told = self._told(name, own, further.get(name, ""), term)
            if told is not None:
                matrix = matrix * told
                further.pop(name, None)
                odd.discard(name)
        return replace(term, matrix=matrix, odd=frozenset(odd), further=further)

    def _has_sign(self, name: str) -> bool:
        return name in self.groups and Kind(self.groups[name].kind).has_signs

    def _told(self, name: str, own: bool, further: str, term: Cross) -> Numbers | None:
        """[A's axes of the term, B's]: 1 or -1, broadcast along all but those of a group; None where nothing tells."""
        group = self.groups[name]
        axes = (*group.depends_on, name)
        if not set(axes) <= set(term.names):
            return None
        total = sum(self._products(place, group) for place in self.where[name] if self._acts(place, own, further))
        if np.mean(np.asarray(total) > 0) < MOST:
            return None
        half, sizes = len(term.names), dict(zip(axes, group.table_shape, strict=True))
        order = [axes.index(other) for other in term.names if other in axes]
        signs = np.where(np.asarray(total) < 0, -1.0, 1.0).reshape(group.table_shape * 2)
        signs = signs.transpose([*order, *(len(axes) + k for k in order)])
        shape = [sizes.get(term.names[k % half], 1) for k in range(2 * half)]
        return signs.reshape(shape)

    def _acts(self, place: Place, own: bool, further: str) -> bool:
        signed = bool(place.move.power % 2) and self._has_sign(place.move.group)
        return signed == own and further_sign(place.cell, place.move, self.signs) == further

    def _products(self, place: Place, group: PermutationGroup) -> Numbers:
        """[units of all rows of A, of B]: inner products."""
        a, b = (place.units(state[place.name]).double().flatten(0, 1) for state in (self.a, self.b))
        found: Numbers = (a @ b.mT).cpu().numpy() if len(a) == prod(group.table_shape) else np.zeros(())
        return found


def _is_alone(place: Place) -> bool:
    """Whether no other units move on a cell."""
    return all(not move.leaves or move.group == place.move.group for move in place.cell.moves)
