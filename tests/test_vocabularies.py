"""Folders of models whose vocabularies or channels differ are merged, and each model keeps its own."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import folders
import pytest
import torch
import transformers as hf
from commands import require_error, run

import permgraph as pg
from permgraph.models.loading import load
from permgraph.models.vocabulary import add_tokens

OTHER = (*folders.WORDS[:6], "w2", "w1", *folders.WORDS[8:-1], "new")


def berts(tmp_path: Path, kind: str = "BertForMaskedLM", **more: Any) -> tuple[Path, Path]:
    """A, and B with two tokens in another order, one in place of another, and two that were added."""
    a = folders.bert(tmp_path / "a", kind, seed=1)
    b = folders.bert(tmp_path / "b", kind, seed=2, words=OTHER, **{"vocab_size": 64} | more)
    tokenizer = hf.AutoTokenizer.from_pretrained(b)
    tokenizer.add_tokens(["<extra>"], special_tokens=True)
    tokenizer.add_tokens(["plain"])
    tokenizer.save_pretrained(b)
    return a, b


@pytest.mark.parametrize("kinds", ["permutation", "all"])
def test_vocabularies_are_merged_by_token(tmp_path: Path, kinds: str) -> None:
    a, b = berts(tmp_path, max_position_embeddings=50)
    out = run("merge", a, b, "--kinds", kinds, "--out", tmp_path / "out").stdout
    rules = [
        "vocabulary: tokens of both merged (44), rows of A alone kept (4), tokens added to B's tokenizer taken (2), "
        "others of B, which A's tokenizer never writes, left out (1)",
        "positions: the first 40 are the same in both and merged, the last 10 of B left out",
    ]
    assert all(rule in " ".join(out.split()) for rule in rules)
    record = json.loads((tmp_path / "out" / "permgraph.json").read_text())
    assert record["borders"] == rules
    assert record["reasons"]["bert.embeddings.position_embeddings.weight"] == rules[1]
    assert {name for name, why in record["reasons"].items() if why == rules[0]} > {
        "bert.embeddings.word_embeddings.weight", "cls.predictions.bias",
    }  # fmt: skip
    tokenizer = hf.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer("w3 <extra> plain w1")["input_ids"] == [2, 8, 45, 46, 6, 3]
    assert "<extra>" in {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    merged = load(str(tmp_path / "out"))
    assert merged.config.vocab_size == len(merged.model.get_input_embeddings().weight) == 50


def test_rows_of_tokens_come_from_whom_they_belong_to(tmp_path: Path) -> None:
    a, b = (load(str(folder)) for folder in berts(tmp_path))
    found = pg.align(a, b)
    table = "bert.embeddings.word_embeddings.weight"
    merged, mine = pg.merge(a, b, alignment=found)[table], a.model.state_dict()[table]
    theirs = found.state_of_b[table]
    assert merged.shape == mine.shape
    assert torch.allclose(merged[6], (mine[6] + theirs[7]) / 2)  # w1
    assert torch.equal(merged[44], mine[44])  # A's alone
    assert torch.allclose(merged[45:47], theirs[45:47])  # added to B's tokenizer
    assert torch.equal(merged[47:], mine[47:])  # padding
    moved = copy.deepcopy(b.model)
    moved.load_state_dict(found.state_of_b)
    tokens = torch.arange(60)[None, :30]
    with torch.no_grad():
        assert torch.allclose(moved(tokens).logits, b.model(tokens).logits, atol=1e-5)


@pytest.mark.parametrize("kinds", ["permutation", "all"])
def test_b_moved_keeps_its_own_tokens(tmp_path: Path, kinds: str) -> None:
    a, b = berts(tmp_path, max_position_embeddings=50)
    out = run("align", a, b, "--kinds", kinds, "--out", tmp_path / "out").stdout
    assert "vocabulary, positions: B keeps its own" in out
    before, after = (load(str(folder)).model for folder in (b, tmp_path / "out"))
    tokens = torch.arange(60)[None, :45]
    with torch.no_grad():
        assert torch.allclose(before(tokens).logits, after(tokens).logits, atol=1e-5)
    mine, theirs = (hf.AutoTokenizer.from_pretrained(folder).get_vocab() for folder in (tmp_path / "out", b))
    assert mine == theirs


def test_more_tokens_than_rows_lengthen_the_table(tmp_path: Path) -> None:
    a, b = folders.bert(tmp_path / "a", vocab_size=45), berts(tmp_path / "more", "BertModel")[1]
    run("merge", a, b, "--out", tmp_path / "out")
    assert load(str(tmp_path / "out")).config.vocab_size == 47


def test_heads_and_borders_that_differ_go_together(tmp_path: Path) -> None:
    a = folders.bert(tmp_path / "one", "BertForSequenceClassification", num_labels=3)
    _, b = berts(tmp_path, "BertForMaskedLM")
    out = run("merge", a, b, "--out", tmp_path / "out").stdout
    assert "kept from A: bert.pooler, classifier" in out
    run("align", a, b, "--out", tmp_path / "moved")
    before, after = (load(str(folder)).model for folder in (b, tmp_path / "moved"))
    tokens = torch.arange(60)[None, :30]
    with torch.no_grad():
        assert torch.allclose(before(tokens).logits, after(tokens).logits, atol=1e-5)


def test_padding_of_the_table_is_no_token(tmp_path: Path) -> None:
    a, b = folders.bert(tmp_path / "a"), folders.bert(tmp_path / "b", seed=3, vocab_size=64)
    assert "tokens of both merged (45), rows of A alone kept (5)" in run("merge", a, b, "--out", tmp_path / "o").stdout
    assert "tokens of both merged (45)" in run("compare", a, b).stdout


def test_an_image_model_of_folders_with_other_channels(tmp_path: Path) -> None:
    a, b = folders.vit(tmp_path / "a"), folders.vit(tmp_path / "b", seed=1, num_channels=1)
    assert "input channels: A reads colours and B grey" in run("merge", a, b, "--out", tmp_path / "out").stdout
    run("align", a, b, "--out", tmp_path / "moved")
    assert load(str(tmp_path / "moved")).config.num_channels == 1


def test_vocabularies_without_a_token_in_both_are_refused(tmp_path: Path) -> None:
    a, b = folders.bert(tmp_path / "a"), folders.bert(tmp_path / "b", words=tuple(f"x{n}" for n in range(45)))
    (b / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "BertTokenizer", "unk_token": "x1", "pad_token": "x0", "cls_token": "x2", '
        '"sep_token": "x3", "mask_token": "x4"}'
    )
    require_error(run("merge", a, b, "--out", tmp_path / "out", code=1), "share no token")


def test_tokens_that_a_s_tokenizer_places_elsewhere_are_refused(tmp_path: Path) -> None:
    a, b = berts(tmp_path)
    with pytest.raises(pg.CheckpointError, match="<extra> cannot be added to the tokenizer of A, which gives them"):
        add_tokens(a, b, ("<extra>",), 99)


def test_a_config_of_another_number_of_tokens_is_named(tmp_path: Path) -> None:
    a, b = (load(str(folder)) for folder in berts(tmp_path))
    a.model.config.vocab_size = 7
    with pytest.raises(pg.SpecMismatchError, match="its config has no `vocab_size` of 50, the rows of its token"):
        pg.align(a, b)
