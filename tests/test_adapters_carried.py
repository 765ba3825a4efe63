"""`--carry`: adapters of PEFT move with the model that they are for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import folders
import peft
import pytest
import torch
import transformers as hf
from commands import require_error, run
from test_neighbours import adapter


def peft_adapter(base: Path, folder: Path, kind: str, targets: list[str], **more: Any) -> Any:
    """An adapter of random factors for the model in `base`, in a folder; the model with it."""
    torch.manual_seed(5)
    config = peft.LoraConfig(r=3, target_modules=targets, init_lora_weights=False, **more)
    model = peft.get_peft_model(getattr(hf, kind).from_pretrained(base), config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "modules_to_save" in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return model


GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 50, "n_positions": 32, "bos_token_id": 0}
STORED_IN_OUT = {"targets": ["c_attn", "c_fc", "c_proj"], "fan_in_fan_out": True}
HEADED = {"targets": ["query", "key", "output.dense"], "modules_to_save": ["classifier"]}
CARRIED: dict[str, tuple[str, dict[str, Any], dict[str, Any], list[str]]] = {
    "stored as (in, out)": ("GPT2LMHeadModel", GPT2, STORED_IN_OUT, []),
    "all kinds": ("GPT2LMHeadModel", GPT2, STORED_IN_OUT, ["--kinds", "all"]),
    "a head of its own": ("BertForSequenceClassification", folders.TEXT | {"num_labels": 3}, HEADED, []),
}


@pytest.mark.parametrize("name", CARRIED)
def test_an_adapter_moves_with_its_model(tmp_path: Path, name: str) -> None:
    kind, fields, asked, words = CARRIED[name]
    b = folders.checkpoint(tmp_path / "b", kind, fields, seed=1)
    a = folders.bert(tmp_path / "a") if "Bert" in kind else folders.checkpoint(tmp_path / "a", kind, fields)
    before = peft_adapter(b, tmp_path / "tuned", kind, **asked)
    told = run("align", a, b, "--carry", tmp_path / "tuned", "--out", tmp_path / "out", *words)
    assert "adapters of B, moved with it: tuned" in told.stdout
    moved = getattr(hf, kind).from_pretrained(tmp_path / "out")
    after = peft.PeftModel.from_pretrained(moved, tmp_path / "out" / "tuned").eval()
    ids = {"input_ids": torch.arange(10).reshape(2, 5)}
    with torch.no_grad():
        torch.testing.assert_close(after(**ids).logits, before(**ids).logits, rtol=1e-3, atol=1e-3)
    assert json.loads((tmp_path / "out" / "permgraph.json").read_text())["carried"] == ["tuned"]
    assert json.loads((tmp_path / "out" / "tuned" / "adapter_config.json").read_text())["r"] == 3


def test_what_cannot_be_carried_is_refused(tmp_path: Path) -> None:
    a, out = folders.bert(tmp_path / "a"), ("--out", tmp_path / "out")
    require_error(run("align", a, a, "--carry", a, *out, code=1), "a: is not an adapter .*adapter_config.json")
    for place in (tmp_path / "one" / "tuned", tmp_path / "two" / "tuned"):
        place.mkdir(parents=True)
        adapter(place)
    given = ("--carry", tmp_path / "one" / "tuned", "--carry", tmp_path / "two" / "tuned")
    require_error(run("align", a, a, *given, *out, code=1), "two folders to carry are called tuned")
    require_error(run("align", a, a, *given[:2], *out, code=1), "base_model.model.q.lora_A.weight, and no weight")
    headed = folders.bert(tmp_path / "headed", "BertForSequenceClassification", seed=1)
    own = ("--kinds", "all", *given[:2])
    require_error(run("align", a, headed, *own, *out, code=1), "move with a head of B's own by permutations and signs")
    assert "leave out --enlarge" in run("align", a, a, "--enlarge", *given[:2], *out, code=2).stderr
    assert not (tmp_path / "out").exists()
