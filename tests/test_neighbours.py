"""Folders of other projects: sentence-transformers are read and written; adapters, pipelines and GGUF are named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import folders
import pytest
import torch
from commands import require_error, run
from safetensors.torch import save_file

from permgraph.checkpoints.foreign import require_own_kind
from permgraph.errors import CheckpointError
from permgraph.models.loading import load

PIPELINE = {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DModel"], "safety": [None, None]}


def adapter(place: Path) -> None:
    fields = {"base_model_name_or_path": "meta/Llama", "peft_type": "LORA"}
    (place / "adapter_config.json").write_text(json.dumps(fields))
    save_file({"base_model.model.q.lora_A.weight": torch.zeros(2, 3)}, place / "adapter_model.safetensors")


def adapter_of_no_name(place: Path) -> None:
    adapter(place)
    (place / "adapter_config.json").write_text('{"base_model_name_or_path": null, "peft_type": "LORA"}')


def pipeline(place: Path) -> None:
    (place / "model_index.json").write_text(json.dumps(PIPELINE))
    (place / "unet").mkdir()
    (place / "unet" / "config.json").write_text('{"_class_name": "UNet2DModel"}')


def quantized(place: Path) -> None:
    (place / "model-Q4_K_M.gguf").write_bytes(b"GGUF")


NAMED = {
    "adapter": (adapter, r"is a PEFT adapter for meta/Llama, not a model.*merge_and_unload.*Alignment\.apply"),
    "adapter of a model without a name": (adapter_of_no_name, "is a PEFT adapter, not a model"),
    "pipeline": (pipeline, r"is a pipeline of diffusers, StableDiffusionPipeline.*unet; it has unet \(UNet2DModel\)\."),
    "GGUF": (quantized, r"model-Q4_K_M\.gguf: is GGUF.*Give the checkpoint that it was converted from"),
}


@pytest.mark.parametrize("command", ["inspect", "verify", "merge"])
@pytest.mark.parametrize("name", NAMED)
def test_what_is_no_model_is_named_with_what_to_do(tmp_path: Path, name: str, command: str) -> None:
    make, message = NAMED[name]
    place = tmp_path / "given"
    place.mkdir()
    make(place)
    words = (command, place, place, "--out", tmp_path / "out") if command == "merge" else (command, place)
    require_error(run(*words, code=1), message)


def test_a_whole_model_with_such_files_beside_it_is_a_model(tmp_path: Path) -> None:
    folders.bert(tmp_path)
    for make, _ in NAMED.values():
        make(tmp_path)
    require_own_kind(tmp_path)
    assert load(str(tmp_path)).architecture == "BertModel"


SENTENCE = "sentence_transformers.models."
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": f"{SENTENCE}Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{SENTENCE}Pooling"},
    {"idx": 2, "name": "2", "path": "2_Normalize", "type": f"{SENTENCE}Normalize"},
]
COPIED = {
    "modules.json", "config_sentence_transformers.json", "sentence_bert_config.json", "1_Pooling/config.json",
}  # fmt: skip


def sentence_model(folder: Path, seed: int = 0, pooling: str = "mean", modules: Any = None) -> Path:
    folders.bert(folder, seed=seed)
    (folder / "modules.json").write_text(json.dumps(MODULES if modules is None else modules))
    (folder / "config_sentence_transformers.json").write_text("{}")
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 32}')
    for name in ("1_Pooling", "2_Normalize"):
        (folder / name).mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({f"pooling_mode_{pooling}_tokens": True}))
    return folder


def written(folder: Path) -> set[str]:
    return COPIED & {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_a_pair_of_sentence_transformers_stays_one(tmp_path: Path) -> None:
    a, b = sentence_model(tmp_path / "a"), sentence_model(tmp_path / "b", 1)
    assert not run("merge", a, b, "--out", tmp_path / "out").stderr
    assert written(tmp_path / "out") == COPIED
    assert (tmp_path / "out" / "2_Normalize").is_dir()


DENSE = {"idx": 3, "name": "3", "path": "3_Dense", "type": f"{SENTENCE}Dense"}
ODD: dict[str, tuple[Any, str]] = {
    "weights of its own": ([*MODULES, DENSE], "3_Dense of sentence-transformers has weights that are not merged"),
    "other code": ([*MODULES[:1], {**MODULES[1], "type": "evil.Pooling"}], ""),
    "a way out": ([*MODULES[:1], {**MODULES[1], "path": "../1_Pooling"}], ""),
    "no list": ({"a": 1}, ""),
}


@pytest.mark.parametrize("name", ODD)
def test_modules_that_cannot_go_along_do_not(tmp_path: Path, name: str) -> None:
    modules, message = ODD[name]
    pair = [sentence_model(tmp_path / n, k, modules=modules) for k, n in enumerate("ab")]
    for folder in pair:
        (folder / "3_Dense").mkdir()
        save_file({"linear.weight": torch.zeros(3, 32)}, folder / "3_Dense" / "model.safetensors")
    told = run("merge", *pair, "--out", tmp_path / "out")
    assert message in " ".join(told.stderr.split())
    assert not written(tmp_path / "out")


def test_other_ways_to_pool_are_told(tmp_path: Path) -> None:
    a, b = sentence_model(tmp_path / "a"), sentence_model(tmp_path / "b", 1, pooling="cls")
    told = " ".join(run("merge", a, b, "--out", tmp_path / "out").stderr.split())
    assert "make another vector of a text (1_Pooling, 2_Normalize): A's is kept" in told
    assert "mean" in (tmp_path / "out" / "1_Pooling" / "config.json").read_text()


def test_a_list_of_modules_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    a = sentence_model(tmp_path / "a")
    (a / "modules.json").write_text("[")
    require_error(run("merge", a, a, "--out", tmp_path / "out", code=1), "modules.json .* cannot be read")


def test_a_pipeline_without_models_says_so(tmp_path: Path) -> None:
    pipeline(tmp_path)
    shutil.rmtree(tmp_path / "unet")
    with pytest.raises(CheckpointError, match="it has none here"):
        require_own_kind(tmp_path)
