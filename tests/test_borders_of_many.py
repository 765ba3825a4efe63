"""More than two models, and bases, whose borders differ; and weights that stay in their files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import folders
import pytest
import torch
import transformers as hf
from commands import run
from test_borders import Image, pixels
from test_vocabularies import OTHER, berts
from torch import Tensor

import permgraph as pg
from permgraph.checkpoints.lazy_state import LazyState
from permgraph.matching.borders import Border, Borders
from permgraph.merging.registry import merge_method
from permgraph.models.loading import load
from permgraph.plugins import Registered

TABLE = "bert.embeddings.word_embeddings.weight"


def three(tmp_path: Path) -> list[Path]:
    """A; B with its words in another order and two more; C with one of B's two, and one of its own."""
    a, b = berts(tmp_path)
    c = folders.bert(tmp_path / "c", "BertForMaskedLM", seed=3, words=OTHER, vocab_size=64, max_position_embeddings=50)
    tokenizer = hf.AutoTokenizer.from_pretrained(c)
    tokenizer.add_tokens(["plain", "third"])
    tokenizer.save_pretrained(c)
    return [a, b, c]


def test_rows_that_only_some_models_have_are_their_mean(tmp_path: Path) -> None:
    models = [load(str(folder)) for folder in three(tmp_path)]
    placements = pg.match_many(models)
    assert all(one.certificate.ok for one in placements[1:])
    merged = pg.merge_many(models, placements, weights=[0.5, 0.2, 0.3])[TABLE]
    spec = placements[0].spec
    a, b, c = (
        spec.apply(one, model.model.state_dict() | one.borders.fitted(model.model.state_dict(), of_b=k > 0))[TABLE]
        for k, (one, model) in enumerate(zip(placements, models, strict=True))
    )
    whole = [model.model.state_dict()[TABLE] for model in models]
    assert torch.allclose(merged[5], 0.5 * a[5] + 0.2 * b[5] + 0.3 * c[5])  # w0
    assert torch.equal(merged[44], whole[0][44])  # A's alone
    assert torch.equal(merged[45], b[45])  # <extra>, B's alone
    assert torch.allclose(merged[46], 0.4 * b[46] + 0.6 * c[46])  # plain, of B and C
    assert torch.equal(merged[47], c[47])  # third
    assert torch.equal(merged[48:], whole[0][48:])  # padding
    assert c[46].abs().sum() == whole[2][45].abs().sum()  # its row there, in another order of units


def test_three_folders_are_merged_by_token(tmp_path: Path) -> None:
    a, b, c = three(tmp_path)
    out = " ".join(run("merge", a, b, c, "--out", tmp_path / "out").stdout.split())
    rules = [
        "tokens of both merged (44), rows of A alone kept (3), tokens added to B's tokenizer taken (2)",
        "positions: the first 40 are the same in both and merged, the last 10 of B left out",
        "entries that not all models have are the mean of those that have them, at their shares",
    ]
    assert all(rule in out for rule in rules)
    record = json.loads((tmp_path / "out" / "permgraph.json").read_text())
    assert len(record["borders"]) == 4
    assert record["borders"][0].startswith(f"{b} as B: vocabulary: ")
    tokenizer = hf.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer("w3 <extra> plain third w1")["input_ids"] == [2, 8, 45, 46, 47, 6, 3]
    merged = load(str(tmp_path / "out"))
    assert merged.config.vocab_size == len(merged.model.get_input_embeddings().weight) == 50


def test_channels_of_three_models() -> None:
    torch.manual_seed(0)
    models = [Image(channels).eval() for channels in (4, 9, 3)]
    placements = pg.match_many(models, args=(pixels(4),))
    merged = pg.merge_many(models, placements)["stem.weight"]
    spec, states = placements[0].spec, [model.state_dict()["stem.weight"] for model in models]
    four = [torch.nn.functional.pad(t, (0, 0, 0, 0, 0, max(0, 4 - t.shape[1])))[:, :4] for t in states]
    moved = [spec.apply_one(one, "stem.weight", t) for one, t in zip(placements, four, strict=True)]
    assert torch.allclose(merged[:, :3], sum(t[:, :3] for t in moved) / 3, atol=1e-6)
    assert torch.allclose(merged[:, 3], (moved[0][:, 3] + moved[1][:, 3]) / 2, atol=1e-6)


@pytest.fixture
def differences(monkeypatch: pytest.MonkeyPatch) -> str:
    """A merge method by differences from a base, for one test."""

    def added(tensors: list[Tensor], shares: Any, *, base: Tensor) -> Tensor:
        return base + sum(tensor - base for tensor in tensors)

    monkeypatch.setattr(merge_method, "_known", {**merge_method._known, "added": Registered("added", added)})
    return "added"


@pytest.mark.parametrize("count", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_a_base_may_have_other_tokens(tmp_path: Path, differences: str, count: int) -> None:
    models_ = three(tmp_path)[:count]
    base = folders.bert(tmp_path / "base", "BertForMaskedLM", seed=4, words=OTHER, vocab_size=45)
    words = ("--base", base, "--merge", differences, "--out", tmp_path / "out")
    run("merge", *models_, *words)
    merged = load(str(tmp_path / "out")).model.state_dict()[TABLE]
    models, root = [load(str(folder)) for folder in models_], load(str(base))
    if count == 2:
        found = pg.align(*models)
        again = pg.merge(*models, alignment=found, method=differences, base=root)
        rows = [found.reference[TABLE], found.state_dict[TABLE]]
    else:
        placements = pg.match_many(models)
        again = pg.merge_many(models, placements, method=differences, base=root)
        rows = []
    assert torch.allclose(merged, again[TABLE], atol=1e-6)
    mine = models[0].model.state_dict()[TABLE]
    assert torch.equal(merged[44], mine[44])  # A's alone: no difference to a row that the base has not
    if rows:
        there = root.model.state_dict()[TABLE]
        assert torch.allclose(merged[6], rows[0][6] + rows[1][6] - there[7], atol=1e-5)  # w1


STREAMED = ("--method", "weights", "--max-memory", "1GB", "--out")


def test_a_merge_of_weights_that_stay_in_their_files(tmp_path: Path) -> None:
    a, b = berts(tmp_path, max_position_embeddings=50)
    out = run("merge", a, b, "--kinds", "all", *STREAMED, tmp_path / "out").stdout
    assert "vocabulary: tokens of both merged (44)" in out
    merged, mine = (load(str(folder)).model.state_dict() for folder in (tmp_path / "out", a))
    assert {name: tensor.shape for name, tensor in merged.items()} == {name: t.shape for name, t in mine.items()}
    assert torch.equal(merged[TABLE][44], mine[TABLE][44])  # A's alone
    assert not torch.equal(merged[TABLE][45], mine[TABLE][45])  # added to B's tokenizer


def test_b_moved_from_weights_that_stay_in_their_files(tmp_path: Path) -> None:
    a, b = berts(tmp_path, max_position_embeddings=50)
    run("align", a, b, *STREAMED, tmp_path / "out")
    before, after = (load(str(folder)).model for folder in (b, tmp_path / "out"))
    tokens = torch.arange(60)[None, :45]
    with torch.no_grad():
        assert torch.allclose(before(tokens).logits, after(tokens).logits, atol=1e-5)


def test_rows_of_a_fitted_table_are_read_alone() -> None:
    """Of weights in files, and the same as those of the whole table."""
    places = torch.tensor([3, 0, -1, 1])
    border = Border("tokens", "", {"t": 0, "u": 1}, {"t": 0, "u": 1}, torch.arange(4), places, 4, 5)
    given = {"t": torch.randn(5, 2), "u": torch.randn(2, 5), "v": torch.randn(3)}
    known = {name: tensor.to("meta") for name, tensor in given.items()}
    read: list[tuple[str, int, int]] = []

    def rows(name: str, start: int, stop: int) -> Tensor:
        read.append((name, start, stop))
        return given[name][start:stop]

    state = LazyState(known, given.__getitem__, rows)
    whole, lazy = (Borders((border,)).fitted(one, of_b=True) for one in (given, state))
    assert isinstance(lazy, LazyState)
    assert [*whole] == [*lazy] == ["t", "u"]
    for name in lazy:
        assert torch.equal(lazy[name], whole[name])
        assert lazy.like[name].shape == whole[name].shape
        assert torch.equal(lazy.rows(name, 1, 3), whole[name][1:3])
    assert read == [("t", 0, 1)]
    assert torch.equal(state.with_(lazy)["v"], given["v"])


def test_a_comparison_from_python_fits_borders() -> None:
    torch.manual_seed(0)
    a, b = Image(4).eval(), Image(9).eval()
    found = pg.compare(a, b, args=(pixels(4),))
    assert "input channels: the first 4 are the same in both" in str(found)
    assert found.verdict == "independent"
    b.load_state_dict(
        {n: torch.cat([t, t, t], 1)[:, :9] if n == "stem.weight" else t for n, t in a.state_dict().items()}
    )
    assert pg.compare(a, b, args=(pixels(4),)).verdict == "same"
