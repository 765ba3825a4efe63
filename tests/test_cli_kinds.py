"""`align` and `merge` with --kinds: ordinary folders, and a record that gives the element back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from commands import run
from tiny_models import built
from transformers import AutoModelForCausalLM

from permgraph.symmetry.elements.permutations import Permutations


def folders(tmp_path: Path, name: str = "gpt2") -> tuple[Path, Path]:
    for number, folder in enumerate("ab"):
        model = built(name)
        torch.manual_seed(number)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        model.save_pretrained(tmp_path / folder)
    return tmp_path / "a", tmp_path / "b"


def test_a_merge_in_all_kinds_is_an_ordinary_folder(tmp_path: Path) -> None:
    a, b = folders(tmp_path)
    run("merge", a, b, "--kinds", "all", "--out", tmp_path / "m")
    config = json.loads((tmp_path / "m/config.json").read_text())
    assert config["tie_word_embeddings"] is False
    record = json.loads((tmp_path / "m/permgraph.json").read_text())
    assert record["kinds"] == "all"
    assert record["untied"] == ["lm_head.weight"]
    assert record["certificate"]["ok"]
    element = Permutations.from_data(record["permutations"])
    assert element["residual"].matrix.shape == (32, 32)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    assert not torch.equal(loaded.lm_head.weight, loaded.transformer.wte.weight)


def test_an_aligned_model_computes_what_it_did(tmp_path: Path) -> None:
    a, b = folders(tmp_path)
    run("align", a, b, "--kinds", "all", "--out", tmp_path / "o")
    ids = torch.arange(12)[None]
    before, after = (AutoModelForCausalLM.from_pretrained(folder).eval()(ids).logits for folder in (b, tmp_path / "o"))
    torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_merge_of_many_in_all_kinds_computes_what_its_models_do(tmp_path: Path, name: str) -> None:
    a, b = folders(tmp_path, name)
    out = tmp_path / "o"
    said = run("merge", a, b, b, "--kinds", "all", "--weight", 0, "--out", out).stdout  # twice b, and nothing of a
    assert "not tied any more, so that norms could be folded: lm_head.weight" in said
    assert json.loads((out / "config.json").read_text())["tie_word_embeddings"] is False
    assert json.loads((out / "permgraph.json").read_text())["untied"] == ["lm_head.weight"]
    ids = torch.arange(12)[None]
    before, after = (AutoModelForCausalLM.from_pretrained(folder).eval()(ids).logits for folder in (b, out))
    torch.testing.assert_close(before, after, rtol=1e-3, atol=1e-3)


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    result = run("merge", tmp_path / "a", tmp_path / "b", "--kinds", "rotations", "--out", tmp_path / "o", code=2)
    assert "--kinds is permutation, signed or all" in result.output


def test_all_kinds_are_inspected_explained_and_proved_after_folding(tmp_path: Path) -> None:
    a, _ = folders(tmp_path, "llama")
    shown = run("inspect", a, "--kinds", "all").stdout
    assert "folded into the layers that read them: model.layers.0–1.input_layernorm.weight" in shown
    assert "not folded: model.norm.weight: it is read by a weight that is tied" in shown
    assert "GL(8) ^ 2" in shown
    explained = run("explain", a, "model.embed_tokens.weight:1", "--kinds", "all").stdout
    assert "no more than signs, for:" in explained
    assert "(llama/modeling_llama.py:67): multiplies it by model.norm.weight" in explained
    assert json.loads(run("verify", a, "--kinds", "all", "--json").stdout)["ok"]


def test_signs_are_inspected_without_weights(tmp_path: Path) -> None:
    a, _ = folders(tmp_path, "llama")
    (a / "model.safetensors").unlink()
    assert "± Sym(32)" in run("inspect", a, "--kinds", "signed").stdout
