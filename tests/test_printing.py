"""What an alignment and an element say when they are printed, here and in a notebook."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pairs import hubert, mlp, plant, vectors
from torch import nn

import permgraph as pg
from permgraph.jobs import record
from permgraph.matching.gains_report import gain_rows
from permgraph.symmetry.elements.report import MOST_ROWS, html_table, text_table

X = vectors()[0]


def planted(noise: float = 0.0) -> pg.Alignment:
    pair = plant(mlp(), vectors())
    return pg.align(pair.a, pair.b, pair.batches)


SHOWN: dict[str, tuple[Callable[[], Any], tuple[str, ...]]] = {
    "an alignment": (
        planted,
        ("2 groups by correlation", "of units moved; the function is unchanged", "mean correlation of matched units"),
    ),
    "an alignment by weights": (
        lambda: pg.align(mlp(), mlp(), args=(X,)),
        ("by weights", "inner product of matched weights"),
    ),
    "an element": (lambda: planted().permutations, ("2 groups, ", "of 24 units moved", "0,2.hidden")),
    "the identity": (lambda: hubert().spec.identity(), ("0.0% of ", "layers.0–1.")),
    "a placement": (lambda: pg.match_many([mlp(), mlp()], args=(X,))[1], ("2 groups, 0.0% of 24 units moved",)),
}


VALUES: dict[str, Callable[[], Any]] = {
    "Alignment": planted,
    "Barrier": lambda: pg.barrier(mlp(), mlp(), lambda model: 1.0, weights=[0.0, 0.5, 1.0]),
    "Canonical": lambda: pg.canonical(mlp(), (X,)),
    "Certificate": lambda: pg.verify(mlp(), (X,)),
    "Comparison": lambda: pg.compare(mlp(), mlp(), args=(X,)),
    "Difference": lambda: pg.diff(mlp(), mlp(), args=(X,)),
    "Enlarged": lambda: pg.enlarge(mlp(12), mlp(8), (X,)),
    "Explanation": lambda: pg.derive(mlp(), (X,)).explain(("0.weight", 0)),
    "Fidelity": lambda: pg.fidelity(mlp().state_dict(), mlp(), mlp(), [X]),
    "Folded": lambda: pg.fold(mlp(), (X,)),
    "Gain": lambda: planted().gains["0.hidden"],
    "LoadedModel": lambda: pg.load("python:pairs:loaded"),
    "PermutationGroup": lambda: hubert().spec["residual"],
    "PermutationSpec": lambda: hubert().spec,
    "Permutations": lambda: planted().permutations,
    "Placement": lambda: pg.match_many([mlp(), mlp()], args=(X,))[1],
}
MODULES = {"Forwards", "TwoHeads"}  # shown as PyTorch shows modules


@pytest.mark.parametrize("name", VALUES)
def test_a_value_shows_itself_in_a_few_words(name: str) -> None:
    found = VALUES[name]()
    assert type(found).__name__ == name
    assert len(repr(found)) < 300
    assert not [word for word in ("array(", "tensor(", "Linear(") if word in repr(found)]


def test_every_public_value_is_shown() -> None:
    public = {name for name in pg.__all__ if isinstance(getattr(pg, name), type)}
    assert {name for name in public if not issubclass(getattr(pg, name), Exception)} == VALUES.keys() | MODULES


def test_what_an_alignment_holds_shows_itself_in_a_few_words() -> None:
    aligned = planted()
    assert repr(aligned.models) == "Models(Sequential, Sequential)"
    assert repr(aligned.partners[0]) == "Partners(0.hidden: 12 units, mean 0.092 -> 1.000)"


@pytest.mark.parametrize("case", SHOWN)
def test_it_is_short_and_says_what_matters(case: str) -> None:
    make, words = SHOWN[case]
    found = make()
    text, page = str(found), found._repr_html_()
    assert len(text.splitlines()) < MOST_ROWS + 8
    assert all(word in text for word in words)
    assert all(word in page for word in words[:1])
    assert len(repr(found)) < 200
    assert "\n" not in repr(found)
    assert "array" not in text + repr(found)


def test_an_alignment_in_a_notebook_has_the_proof_the_gains_and_pictures() -> None:
    for aligned, matrices in ((planted(), 4), (pg.align(mlp(), mlp(), args=(X,)), 0)):
        page = aligned._repr_html_()
        assert str(aligned.certificate) in page
        assert page.count("<tr><td>") == page.count('<svg class="range"') == len(gain_rows(aligned))
        assert page.count('<img class="matrix"') == matrices


def test_gains_by_weights_are_shares_of_their_bounds() -> None:
    pair = plant(mlp(), vectors())
    aligned = pg.align(pair.a, pair.b, args=(X,))
    assert [row[3] for row in gain_rows(aligned)] == ["1.000"]
    assert all(gain.shares[0] < 1 for gain in aligned.gains.values())


def test_a_command_prints_one_screen_of_gains(monkeypatch: pytest.MonkeyPatch) -> None:
    aligned = pg.align(mlp(), mlp(), args=(X,))
    (row,) = gain_rows(aligned)
    for count, shown in ((MOST_ROWS, MOST_ROWS), (MOST_ROWS + 5, MOST_ROWS + 1)):
        monkeypatch.setattr(record, "gain_rows", lambda _, rows=count: [row] * rows)
        table = record.gain_table(aligned)
        assert table.row_count == shown
        assert ("and 5 more rows, see report.html" in [*table.columns[0].cells]) == (count > MOST_ROWS)


def test_what_has_no_groups_has_no_table() -> None:
    model = nn.Linear(3, 2).eval()
    spec, aligned = pg.derive(model, torch.ones(2, 3)), pg.align(model, model, args=(torch.ones(2, 3),))
    assert "group  role" not in str(spec) + str(aligned)


def test_one_group_is_counted_as_one() -> None:
    model, x = nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2)).eval(), torch.ones(2, 3)
    spec, aligned = pg.derive(model, x), pg.align(model, model, args=(x,))
    for shown in (str(spec), repr(spec), str(aligned), str(aligned.permutations)):
        assert "1 group" in shown
        assert "1 groups" not in shown


def test_long_tables_are_cut_and_counted() -> None:
    body = [(f"<{k}>", str(k)) for k in range(MOST_ROWS + 3)]
    assert text_table(("name", "count"), body).endswith("and 3 more")
    page = html_table("a & b", ("name", "count"), body)
    assert "and 3 more" in page
    assert "a &amp; b" in page
    assert "<0>" not in page


@pytest.mark.parametrize("name", ["0.hiddn", "zzz"])
def test_a_group_that_is_not_there_has_near_names(name: str) -> None:
    spec = pg.derive(mlp(), (X,))
    with pytest.raises(pg.SpecMismatchError, match=f"no group is called '{name}'; near: 0.hidden"):
        spec[name]


def test_weights_that_are_not_finite_are_an_error_of_their_own() -> None:
    model = mlp()
    model[0].bias.data[0] = np.nan
    with pytest.raises(
        pg.NonFiniteError, match=r"model B: weights that are NaN or infinite: 0\.bias \(1 of 12"
    ) as told:
        pg.merge(mlp(), model)
    assert isinstance(told.value, pg.CheckpointError)
    assert "checkpoint" not in str(told.value)


def test_an_explanation_is_its_text_in_a_notebook() -> None:
    found = pg.derive(mlp(), (X,)).explain(("0.weight", 0))
    assert repr(found) == str(found) == found.text
    assert found._repr_html_().startswith("<pre>")


def test_specifications_that_say_the_same_are_equal() -> None:
    spec = pg.derive(mlp(), (X,))
    again = pg.PermutationSpec.from_json(spec.to_json())
    assert (again, hash(again)) == (spec, hash(spec))
    assert spec == pg.derive(mlp(), (X,))
    assert spec != pg.derive(mlp(), (X,), outputs="free")
    assert spec != spec.to_json()


@pytest.mark.parametrize("given", [str, lambda name: [name]], ids=["alone", "in a list"])
def test_one_group_is_given_with_or_without_a_list(given: Callable[[str], Any]) -> None:
    name = pg.derive(mlp(), (X,)).groups[0].name
    assert set(pg.align(mlp(), mlp(), args=(X,), groups=given(name)).gains) == {name}
