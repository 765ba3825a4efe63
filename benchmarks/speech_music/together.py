"""The mean over pairs of encoders, from the estimates and intervals of each, whichever machine they are from.

In every draw the encoders of either side are drawn anew, and with them all pairs that they make: two pairs that share
an encoder are not independent. The error of the tests is that of the pairs' own intervals, above and below; the pairs
are tested on the same clips, so it is taken to be the same for all of them, which makes the interval wider.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.speech_music.rows import ROWS
from benchmarks.speech_music.scoring import DRAWS, MEASURES, TRANSFER, Draws, interval, transferred, transferred_at

NORMAL_95 = 1.96
Result = dict[str, Any]


def drawn(pairs: Sequence[Sequence[str]]) -> Draws:
    """(1 + DRAWS, pairs): the share of each pair, (A, B), where the As and the Bs are drawn anew; equal at first."""
    rng, found = np.random.default_rng(2), [np.ones(len(pairs))]
    while len(found) <= DRAWS:
        counts = []
        for side in zip(*pairs, strict=True):
            names = sorted(set(side))
            counts.append(
                dict(zip(names, rng.multinomial(len(names), np.full(len(names), 1 / len(names))), strict=True))
            )
        weights = np.array([counts[0][a] * counts[1][b] for a, b in pairs], float)
        if weights.any():
            found.append(weights)
    return np.stack([weights / weights.sum() for weights in found])


def mean(leaves: Sequence[Sequence[float]], shares: Draws, stream: int = 0) -> Draws:
    """The mean of estimates [estimate, low, high] with `shares`; one error of the tests for each draw and stream."""
    z = np.append(0.0, np.random.default_rng((4, stream)).standard_normal(DRAWS))[:, None]
    middle, low, high = np.array(leaves).T
    each = middle + z * np.where(z > 0, high - middle, middle - low) / NORMAL_95
    return np.einsum("rp,rp->r", shares, each)


def together(results: Mapping[str, Result], encoders: Mapping[str, Sequence[str]]) -> Result:
    """Every row and every contrast that several pairs have, over the pairs that have it.

    A row's best weight is that of the mean, among the weights that all of its pairs and their `linear` have.
    """
    pairs = _Pairs(results, encoders)
    rows = [found for row in ROWS if (found := pairs.row(row.name))]
    return {"pairs": {name: list(encoders[name]) for name in results}, "rows": rows, "contrasts": pairs.contrasts()}


class _Pairs:
    def __init__(self, results: Mapping[str, Result], encoders: Mapping[str, Sequence[str]]) -> None:
        self.results, self.encoders = results, encoders
        self.points = {
            name: {(row["name"], point["weight"]): point for row in result["rows"] for point in row["points"]}
            for name, result in results.items()
        }

    def row(self, name: str) -> Result | None:
        """A row that at least two pairs have at one weight."""
        own = [pair for pair, points in self.points.items() if any(row == name for row, _ in points)]
        common = set.intersection(*({w for row, w in self.points[p] if row == name} for p in own)) if own else set()
        if len(own) < 2 or not common:
            return None
        row = next(row for row in self.results[own[0]]["rows"] if row["name"] == name)
        weights = sorted(common)
        points = [self._point(own, name, weight) for weight in weights]
        shown = [{"weight": w, **{m: interval(p[m]) for m in MEASURES}} for w, p in zip(weights, points, strict=True)]
        best = {"transferred_at": transferred_at(shown)} | self._best(own, points)
        return {
            "name": name,
            "title": row["title"],
            "family": row["family"],
            "pairs": own,
            "points": shown,
            "best": best,
        }

    def _best(self, own: Sequence[str], points: Sequence[Mapping[str, Draws]]) -> Result:
        mine = transferred(_stacked(points))
        known = set.intersection(*({w for row, w in self.points[pair] if row == "linear"} for pair in own))
        linear = transferred(_stacked([self._point(own, "linear", weight) for weight in sorted(known)]))
        return {"transferred": interval(mine), "transferred_minus_linear": interval(mine - linear)}

    def _point(self, own: Sequence[str], row: str, weight: float) -> dict[str, Draws]:
        shares = drawn([self.encoders[pair] for pair in own])
        stream = [one.name for one in ROWS].index(row) + 1
        return {m: mean([self.points[pair][row, weight][m] for pair in own], shares, stream) for m in MEASURES}

    def contrasts(self) -> list[Result]:
        """Differences at equal weights, over the pairs that have them."""
        each = {
            name: {(one["row"], one["control"], one["weight"]): one for one in result["contrasts"]}
            for name, result in self.results.items()
        }
        found = []
        for key in dict.fromkeys(key for contrasts in each.values() for key in contrasts):
            own = [name for name in each if key in each[name]]
            if len(own) > 1:
                shares = drawn([self.encoders[name] for name in own])
                means = {m: interval(mean([each[name][key][m] for name in own], shares)) for m in MEASURES}
                found.append(dict(zip(("row", "control", "weight"), key, strict=True)) | {"pairs": own} | means)
        return found


def _stacked(points: Sequence[Mapping[str, Draws]]) -> dict[str, Draws]:
    return {name: np.stack([point[name] for point in points]) for name in ("speech", TRANSFER)}
