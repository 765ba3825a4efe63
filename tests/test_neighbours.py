"""Folders of other projects: diffusers and sentence-transformers are read and written, adapters and GGUF are named."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any, ClassVar

import diffusers_beside
import folders
import peft
import pytest
import torch
import transformers as hf
from commands import require_error, run
from safetensors.torch import save_file
from torch.utils import _pytree as pytree

import permgraph as pg
from permgraph.checkpoints.foreign import require_own_kind
from permgraph.errors import AdapterError, CheckpointError
from permgraph.models.diffusers_models import DiffusersAdapter
from permgraph.models.loading import load

PIPELINE = {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DModel"], "safety": [None, None]}


def adapter(place: Path) -> None:
    fields = {"base_model_name_or_path": "meta/Llama", "peft_type": "LORA"}
    (place / "adapter_config.json").write_text(json.dumps(fields))
    save_file({"base_model.model.q.lora_A.weight": torch.zeros(2, 3)}, place / "adapter_model.safetensors")


def pipeline(place: Path) -> None:
    (place / "model_index.json").write_text(json.dumps(PIPELINE))
    (place / "unet").mkdir()
    (place / "unet" / "config.json").write_text('{"_class_name": "UNet2DModel"}')


def quantized(place: Path) -> None:
    (place / "model-Q4_K_M.gguf").write_bytes(b"GGUF")


NAMED = {
    "adapter": (adapter, r"is a PEFT adapter for meta/Llama, not a model.*merge_and_unload.*Alignment\.apply"),
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


UNET = {
    "sample_size": 8, "block_out_channels": (8, 16), "layers_per_block": 1, "cross_attention_dim": 8,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "attention_head_dim": 4, "norm_num_groups": 4,
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}  # fmt: skip
needs_diffusers = pytest.mark.skipif(
    not diffusers_beside.available(), reason="diffusers is not installed; `make test` installs it"
)
quiet = pytest.mark.filterwarnings("ignore::Warning:diffusers.*", "ignore::Warning:torch.*")


def unets(place: Path, *channels: int) -> list[Path]:
    kind = diffusers_beside.load().UNet2DConditionModel
    for number, count in enumerate(channels):
        torch.manual_seed(number)
        kind(**UNET, in_channels=count).save_pretrained(place / f"{number}" / "unet")
    return [place / f"{number}" / "unet" for number in range(len(channels))]


@quiet
@needs_diffusers
def test_unets_of_pipelines_with_other_input_channels(tmp_path: Path) -> None:
    kind = diffusers_beside.load().UNet2DConditionModel
    a, b = unets(tmp_path, 4, 9)
    out = run("merge", a, b, "--out", tmp_path / "out").stdout
    assert "input channels: the first 4 are the same in both and merged, the last 5 of B left out" in out
    assert kind.from_pretrained(tmp_path / "out").config.in_channels == 4
    assert "from diffusers import UNet2DConditionModel" in (tmp_path / "out" / "README.md").read_text()


@quiet
@needs_diffusers
@pytest.mark.slow
def test_a_moved_unet_with_other_input_channels_computes_what_it_did(tmp_path: Path) -> None:
    kind = diffusers_beside.load().UNet2DConditionModel
    a, b = unets(tmp_path, 4, 9)
    run("align", a, b, "--out", tmp_path / "moved")
    before, after = (kind.from_pretrained(folder).eval() for folder in (b, tmp_path / "moved"))
    given = torch.randn(1, 9, 16, 16), torch.tensor([3]), torch.randn(1, 5, 8)
    with torch.no_grad():
        assert torch.allclose(before(*given).sample, after(*given).sample, atol=1e-4)
    assert not all(torch.equal(one, other) for one, other in zip(before.parameters(), after.parameters(), strict=True))


@quiet
@needs_diffusers
def test_configs_of_diffusers_that_cannot_be_built_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place,) = unets(tmp_path, 4)
    fields = json.loads((place / "config.json").read_text())
    wrong = {
        "has no model 'Nothing'": {"_class_name": "Nothing"},
        "UNet2DConditionModel cannot be built from it: .*Correct the field": {"up_block_types": ["Nothing"]},
    }
    for message, more in wrong.items():
        (place / "config.json").write_text(json.dumps(fields | more))
        with pytest.raises(CheckpointError, match=message):
            load(str(place))
    (place / "config.json").write_text(json.dumps(fields))
    with pytest.raises(CheckpointError, match="models of diffusers are made whole in memory"):
        load(str(place), on_demand=True)
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(CheckpointError, match=r"of diffusers, which is not installed: pip install diffusers"):
        load(str(place))


def test_inputs_that_cannot_be_made_are_named() -> None:
    class Other(torch.nn.Module):
        config: ClassVar[dict[str, Any]] = {}

        def forward(self, sample: torch.Tensor, camera: torch.Tensor) -> torch.Tensor:
            return sample + camera

    with pytest.raises(AdapterError, match="Other takes camera, and no example of that can be made"):
        DiffusersAdapter().example_inputs(Other())


def test_a_pipeline_without_models_says_so(tmp_path: Path) -> None:
    pipeline(tmp_path)
    shutil.rmtree(tmp_path / "unet")
    with pytest.raises(CheckpointError, match="it has none here"):
        require_own_kind(tmp_path)


class Pair(dict[str, Any]):
    """An output that is registered without names, as those of diffusers are."""


class Listed(list[Any]):
    """The same without keys."""


pytree.register_pytree_node(
    Pair, lambda p: (list(p.values()), list(p)), lambda values, keys: Pair(zip(keys, values, strict=True))
)
pytree.register_pytree_node(Listed, lambda p: (list(p), None), lambda values, _: Listed(values))


@pytest.mark.parametrize("made", [lambda h: Pair(a=h, b=(h, h)), lambda h: Listed([h, (h, h)])], ids=["keys", "none"])
def test_outputs_of_classes_without_names_are_traced(made: Any) -> None:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.out = torch.nn.Linear(4, 6), torch.nn.Linear(6, 2)

        def forward(self, x: torch.Tensor) -> Any:
            return made(self.out(self.up(x).relu()))

    model, x = Net().eval(), torch.randn(3, 4)
    spec = pg.derive(model, x)
    assert [group.size for group in spec.groups] == [6]
    assert len(spec.output_layouts) == 3
    assert pg.verify(model, (x,))


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
    assert "leave out --enlarge" in run("align", a, a, "--enlarge", *given[:2], *out, code=2).stderr
    assert not (tmp_path / "out").exists()
