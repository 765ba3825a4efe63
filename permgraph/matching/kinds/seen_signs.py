"""Signs that activations tell: where units have a sign of their own and further ones, the product of these.

Between a layer and an odd function, a batch norm gives units a sign more. Their activations tell the product of both,
which every layer that reads them needs; the weights between tell which of the two it is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from permgraph.matching.kinds.ascent import Ascent
from permgraph.matching.kinds.gains import Compared
from permgraph.matching.kinds.signs import Signs, Term


def sign_as_seen(ascent: Ascent, seen: Sequence[Compared], decided: Collection[str]) -> set[str]:
    """Choose signs of which activations tell the product, and then, with the product kept, by weights; their groups.

    The products of all groups come first, since weights are compared where their inputs are right. The signs of
    `decided` groups stay.
    """
    sets = [{one.group.name: one for one in every if one.group.name not in decided} for every in ascent.met]
    for members in sets:
        ascent.choose(members, told(ascent, members, seen))
    found = set[str]()
    for members in sets:
        products = [(names, one, np.sign(np.abs(table))) for names, one, table in told(ascent, members, seen)]
        if names := {name for among, _, _ in products for name in among}:
            weights = list(ascent.terms_of(members))
            most = 1 + sum(float(np.abs(table).max(initial=0)) for _, _, table in weights)
            ascent.choose(members, [*weights, *((among, one, most * table) for among, one, table in products)])
            found |= names
    return found


def told(ascent: Ascent, members: Mapping[str, Signs], seen: Sequence[Compared]) -> Iterator[Term]:
    """The products of further signs, and maybe of others, that activations tell: as B is moved now, 1 or -1 for a unit.

    A unit of which they tell nothing has 0.
    """
    for one in seen:
        names = frozenset(one.signs).intersection(members)
        if names and one.term.further:
            axes = {name: k for k, name in enumerate(one.term.names)}
            finest = max((members[name] for name in one.signs if name in names), key=lambda sign: len(sign.axes))
            if axes.keys() >= {*finest.axes} >= {axis for name in names for axis in members[name].axes}:
                table: Any = one.moved(ascent.spec, ascent.element)
                kept = [axes[name] for name in finest.axes]
                yield names, finest, np.einsum(table, [*axes.values()], kept)
