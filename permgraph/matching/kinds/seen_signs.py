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
from permgraph.matching.kinds.signs import Signs, Term, cells_of


def sign_as_seen(ascent: Ascent, seen: Sequence[Compared], decided: Collection[str]) -> set[str]:
    """Choose signs of which activations tell the product: by these alone, then with weights; the groups chosen.

    The products of all groups come first, since weights are compared where their inputs are right. Then weights and
    activations count alike, each as a share of its upper bound. The signs of `decided` groups stay.
    """
    sets = [{one.group.name: one for one in every if one.group.name not in decided} for every in ascent.signing.met]
    sets = [members for members in sets if next(told(ascent, members, seen), None)]
    for members in sets:
        ascent.signing.choose(members, told(ascent, members, seen))
    for members in sets:
        products = list(told(ascent, members, seen))
        factor = _bound(ascent, members) / sum(table.size for _, _, table in products)
        ascent.signing.choose(
            members, [*ascent.signing.terms_of(members), *((n, one, factor * table) for n, one, table in products)]
        )
    return {name for members in sets for among, _, _ in told(ascent, members, seen) for name in among}


def told(ascent: Ascent, members: Mapping[str, Signs], seen: Sequence[Compared]) -> Iterator[Term]:
    """Products of further signs, and maybe of others: the correlation of each unit of A with B's as moved now."""
    for one in seen:
        names = frozenset(one.signs).intersection(members)
        if names and one.term.further:
            axes = {name: k for k, name in enumerate(one.term.names)}
            finest = max((members[name] for name in one.signs if name in names), key=lambda sign: len(sign.axes))
            if axes.keys() >= {*finest.axes} >= {axis for name in names for axis in members[name].axes}:
                table: Any = one.moved(ascent.spec, ascent.element)
                kept = [axes[name] for name in finest.axes]
                yield names, finest, np.einsum(table, [*axes.values()], kept)


def _bound(ascent: Ascent, members: Mapping[str, Signs]) -> float:
    """Σ |A| |B| over the weights on which these signs act."""
    found = 0.0
    for _, place in cells_of(members.values(), ascent.where):
        one, other = (place.units(state[place.name]).double().norm() for state in (ascent.a, ascent.moved))
        found += float(one * other)
    return found
