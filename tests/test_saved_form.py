"""Outputs have the names and the cuts of the files they were made from, where those of the code are others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from commands import run
from safetensors.torch import load_file
from torch import Tensor

import permgraph as pg
from permgraph.models.saved_form import saved_form

SMALL = {
    "vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2,
    "intermediate_size": 12, "moe_intermediate_size": 8, "use_cache": False, "max_position_embeddings": 16,
    "num_experts_per_tok": 1, "tie_word_embeddings": True,
}  # fmt: skip
FORMS: dict[str, tuple[str, dict[str, Any], str]] = {
    "renamed modules": ("MixtralForCausalLM", {"num_local_experts": 3}, "block_sparse_moe.experts.2.w1.weight"),
    "a tensor an expert": (
        "Qwen2MoeForCausalLM",
        {"num_experts": 3, "shared_expert_intermediate_size": 8},
        "mlp.experts.2.up_proj.weight",
    ),
}


def folder(place: Path, form: str, seed: int, **saved: Any) -> Path:
    kind, fields, _ = FORMS[form]
    torch.manual_seed(seed)
    model = getattr(hf, kind)(getattr(hf, kind).config_class(**SMALL, **fields)).bfloat16()
    model.save_pretrained(place, **saved)
    return place


def files(place: Path) -> dict[str, dict[str, Tensor]]:
    return {path.name: load_file(path) for path in sorted(place.glob("*.safetensors"))}


def shapes(place: Path) -> dict[str, dict[str, tuple[Any, ...]]]:
    return {name: {key: (*t.shape, t.dtype) for key, t in found.items()} for name, found in files(place).items()}


@pytest.mark.parametrize("form", FORMS)
def test_names_shapes_and_files_are_those_of_the_inputs(tmp_path: Path, form: str) -> None:
    a, b = folder(tmp_path / "a", form, 0, max_shard_size="3KB"), folder(tmp_path / "b", form, 1)
    run("align", a, b, "--out", tmp_path / "out")
    assert shapes(tmp_path / "out") == shapes(a)
    assert len(shapes(a)) > 1
    tensors = json.loads((tmp_path / "out" / "permgraph.json").read_text())["tensors"]
    stored = {name for found in files(a).values() for name in found}
    assert tensors.keys() == stored | {"lm_head.weight"}
    assert tensors[f"model.layers.0.{FORMS[form][2]}"] == "moved"


@pytest.mark.parametrize("form", FORMS)
def test_a_merge_of_many_has_the_form_of_its_inputs(tmp_path: Path, form: str) -> None:
    a, b, c = (folder(tmp_path / name, form, seed) for seed, name in enumerate("abc"))
    run("merge", a, b, c, "--out", tmp_path / "out")
    assert shapes(tmp_path / "out") == shapes(a)


def test_a_merge_has_the_form_of_a_where_b_has_another(tmp_path: Path) -> None:
    form = "a tensor an expert"
    a = folder(tmp_path / "a", form, 0)
    b = folder(tmp_path / "b", form, 1, save_original_format=False)
    assert shapes(a) != shapes(b)
    said = run("merge", a, b, "--out", tmp_path / "out").stdout
    assert shapes(tmp_path / "out") == shapes(a)
    assert " moved (" in said
    assert "100.0% of the numbers" in said
    run("merge", b, a, "--out", tmp_path / "other")
    assert shapes(tmp_path / "other") == shapes(b)


def test_what_is_saved_from_python_loads_as_it_was(tmp_path: Path) -> None:
    given = folder(tmp_path / "given", "renamed modules", 0)
    model = pg.load(given)
    pg.save(tmp_path / "loaded", model.model.state_dict(), model)
    assert shapes(tmp_path / "loaded") == shapes(given)
    pg.save(tmp_path / "module", model.model.state_dict(), model.model, dtype="bfloat16")
    again = pg.load(tmp_path / "module").model.state_dict()
    assert shapes(tmp_path / "module") == shapes(given)
    assert all(torch.equal(again[name], tensor) for name, tensor in model.model.state_dict().items())


def test_models_that_are_saved_as_they_are_have_no_other_form() -> None:
    config = hf.BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    assert saved_form(hf.BertModel(config)) is None
    assert saved_form(torch.nn.Linear(2, 2)) is None
