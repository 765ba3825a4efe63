"""`align` with method "learned": begun at an alignment, proved as any other, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from learning_cases import Planted, halfway, planted
from merging_cases import small_gpt2
from pairs import spread

import permgraph as pg
from permgraph.matching.methods.learned import STARTING


def aligned(pair: Planted, **options: Any) -> pg.Alignment:
    return pg.align(pair.model, pair.other, pair.batches, method="learned", **{"kinds": "all"} | options)


def test_learning_begins_at_an_alignment() -> None:
    pair = planted()
    start = pg.align(pair.model, pair.other, args=(pair.batches[0],), kinds="all")
    found, again = aligned(pair, start=start, steps=20), aligned(pair, start=start.permutations, steps=20)
    assert found.certificate
    assert found.method == "learned"
    assert found.permutations == again.permutations
    assert halfway(pair, found.permutations) < halfway(pair, pair.spec.identity())
    assert found.descent is not None
    assert len(found.descent.losses) == 20
    assert set(found.gains) == {group.name for group in found.spec.groups}


def start(pair: Planted, method: str) -> pg.Alignment:
    data = None if method == "weights" else pair.batches
    how = {"mix": 0.5} if method == "mix" else {"method": method}
    return pg.align(pair.model, pair.other, data, args=(pair.batches[0],), kinds="all", **how)


def test_learning_begins_at_the_best_of_three_matchings() -> None:
    pair, generator = planted(), torch.Generator().manual_seed(0)
    with torch.no_grad():  # without noise both find the same
        for parameter in (p for p in pair.other.parameters() if p.dim() > 1):
            parameter.add_(0.5 * parameter.std() * torch.randn(parameter.shape, generator=generator))
    starts = [start(pair, method) for method in ("weights", "correlation", "mix")]
    first = torch.cat(list(pair.batches[:STARTING]))
    best = min(starts, key=lambda found: halfway(pair, found.permutations, first))
    assert aligned(pair, steps=1).permutations == aligned(pair, start=best, steps=1).permutations


def test_learning_begins_by_weights_where_activations_are_too_few() -> None:
    pair = replace(planted(), batches=[batch[:1, :1] for batch in planted().batches])
    with pytest.raises(pg.CalibrationError):
        start(pair, "correlation")
    assert aligned(pair, steps=1).permutations == aligned(pair, start=start(pair, "weights"), steps=1).permutations


def test_groups_that_are_not_asked_for_stay_where_the_start_has_them() -> None:
    pair = planted()
    start = pair.spec.sample(0)
    found = aligned(pair, start=start, groups=["attention.vo"], steps=2).permutations
    changed = [name for name in found if pg.Permutations({name: found[name]}) != pg.Permutations({name: start[name]})]
    assert {pair.spec[name].role for name in changed} == {"attention.vo"}


def test_a_tied_language_model_is_learned_untied() -> None:
    a, b = spread(small_gpt2(), 1), spread(small_gpt2(), 2)
    batches = [{"input_ids": torch.randint(0, 50, (4, 20))} for _ in range(2)]
    found = pg.align(a, b, batches, kinds="all", method="learned", steps=8)
    assert found.certificate
    assert found.untied == ("lm_head.weight",)
    assert found.descent is not None
    assert found.descent.losses[-1] < found.descent.losses[0]


def test_what_cannot_be_learned_is_refused() -> None:
    pair = planted()
    with pytest.raises(pg.OptionError, match='no group here has any: give kinds="all"'):
        aligned(pair, kinds="permutation")
    with pytest.raises(pg.OptionError, match="no group here has any: move the groups that have them too"):
        aligned(pair, groups="attention.heads")
    net = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 2)).eval()
    with pytest.raises(pg.OptionError, match="or, where that is what you gave, another method"):
        pg.align(net, net, [torch.randn(32, 4)], kinds="all", method="learned")
    with pytest.raises(pg.OptionError, match="start is an alignment, or an element of the group, not 3"):
        aligned(pair, start=3)
