import json
import sys
import types
from importlib.metadata import Distribution, EntryPoint

import numpy as np
import pytest
import soundfile
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    BertModel,
    CLIPConfig,
    CLIPModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTModel,
    WhisperConfig,
    WhisperModel,
)

from permgraph import adapters
from permgraph.adapters import Adapter, adapter_for, installed_adapters
from permgraph.checkpoints.reading import open_checkpoint
from permgraph.checkpoints.writing import write_merged
from permgraph.data.calibration import read_batches
from permgraph.errors import AdapterError, CalibrationError, CheckpointError
from permgraph.models.loading import load

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
TEXT = SMALL | {"vocab_size": 50, "max_position_embeddings": 40}
WHISPER = {
    "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "vocab_size": 60,
    "max_source_positions": 20, "max_target_positions": 20, "num_mel_bins": 8, "pad_token_id": 1, "bos_token_id": 1,
    "eos_token_id": 2, "decoder_start_token_id": 3,
}  # fmt: skip
TOWERS = {"text_config": TEXT | {"eos_token_id": 2}, "vision_config": SMALL | {"image_size": 32, "patch_size": 16}}
MODELS = {
    "bert": (BertModel, lambda: BertConfig(**TEXT)),
    "vit": (ViTModel, lambda: ViTConfig(**SMALL, image_size=32, patch_size=16)),
    "gpt2": (GPT2LMHeadModel, lambda: GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=50, n_positions=40)),
    "llama": (LlamaForCausalLM, lambda: LlamaConfig(**TEXT, num_key_value_heads=2, tie_word_embeddings=True)),
    "whisper": (WhisperModel, lambda: WhisperConfig(**WHISPER)),
    "t5": (T5ForConditionalGeneration, lambda: T5Config(d_model=32, d_ff=64, num_layers=1, num_heads=4, vocab_size=50)),
    "clip": (CLIPModel, lambda: CLIPConfig(**TOWERS)),
}


def built(name):
    kind, config = MODELS[name]
    torch.manual_seed(0)
    return kind(config()).eval()


@torch.no_grad()
def outputs(model, kwargs):
    return [value for value in model(**kwargs).to_tuple() if isinstance(value, torch.Tensor)]


@pytest.mark.parametrize("name", MODELS)
def test_a_model_without_an_adapter_loads_runs_and_is_written_again(tmp_path, monkeypatch, name):
    install(monkeypatch)
    model = built(name)
    model.save_pretrained(tmp_path / "a")
    loaded = load(str(tmp_path / "a"))
    assert type(loaded.model) is type(model)
    assert type(loaded.adapter) is Adapter
    assert loaded.outputs == "fixed"
    expected = outputs(model, loaded.kwargs)
    assert expected
    assert all(
        torch.equal(ours, theirs) for ours, theirs in zip(outputs(loaded.model, loaded.kwargs), expected, strict=True)
    )
    out = write_merged(
        tmp_path / "out", loaded.model.state_dict(), report={}, config=loaded.config, architecture=loaded.architecture
    )
    again = type(model).from_pretrained(out).eval()
    assert all(torch.equal(a, b) for a, b in zip(outputs(again, loaded.kwargs), expected, strict=True))
    assert again.config.use_cache == model.config.use_cache if hasattr(model.config, "use_cache") else True


@pytest.mark.parametrize("name", MODELS)
def test_shapes_alone_need_no_weights(tmp_path, name):
    model = built(name)
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(tmp_path)
    loaded = load(str(tmp_path), weights=False)
    assert {tensor.device.type for tensor in loaded.model.parameters()} == {"meta"}
    shapes = {name: tensor.shape for name, tensor in loaded.model.state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in model.state_dict().items()}


def test_a_checkpoint_that_holds_more_than_the_class_it_names(tmp_path):
    model = BertForPreTraining(BertConfig(**TEXT))
    model.save_pretrained(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text()) | {"architectures": ["BertForMaskedLM"]}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    assert type(load(str(tmp_path)).model) is BertForPreTraining
    fields["architectures"] = ["BertForMaskedLM"]
    BertForMaskedLM(BertConfig(**TEXT)).save_pretrained(tmp_path)
    assert type(load(str(tmp_path)).model) is BertForMaskedLM


def test_a_config_of_other_sizes_is_refused_with_both_shapes(tmp_path):
    built("bert").save_pretrained(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text()) | {"intermediate_size": 48}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    with pytest.raises(CheckpointError, match=r"intermediate\.dense\.bias \(file \[64\], BertModel \[48\]\)"):
        load(str(tmp_path))


FOLDERS = {
    "no config": ({}, CheckpointError, "no config.json"),
    "config cut off": ({"config.json": "{"}, CheckpointError, r"config\.json .*cannot be read"),
    "config is a list": ({"config.json": "[]"}, CheckpointError, "not an object"),
    "no model type": ({"config.json": "{}"}, CheckpointError, "model_type"),
    "unknown model type": ({"config.json": '{"model_type": "x9"}'}, AdapterError, "'x9' is not known to transformers"),
    "impossible value": ({"config.json": '{"model_type": "bert", "hidden_size": "big"}'}, AdapterError, "hidden_size"),
    "impossible sizes": (
        {"config.json": '{"model_type": "bert", "hidden_size": 30}', "model.safetensors": "x"},
        (AdapterError, CheckpointError),
        "hidden_size|cannot be read",
    ),
    "no weights": ({"config.json": '{"model_type": "bert"}'}, CheckpointError, "no weights"),
}


@pytest.mark.parametrize(("files", "error", "message"), FOLDERS.values(), ids=FOLDERS)
def test_a_folder_that_is_no_model_is_refused(tmp_path, files, error, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(error, match=message):
        load(str(tmp_path))


@pytest.mark.parametrize("reference", ["/nowhere/at/all", "./nowhere", "a/b/c", "~/nowhere", "", "no such:model"])
def test_a_path_that_is_not_there_is_not_looked_up_anywhere(reference):
    with pytest.raises(CheckpointError, match="no such folder"):
        load(reference)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(CheckpointError, match="is a file"):
        load(str(tmp_path / "model.safetensors"))


def test_a_hub_that_cannot_be_reached_is_an_error_that_says_what_to_do(monkeypatch, tmp_path):
    import huggingface_hub

    def unreachable(*args, **kwargs):
        raise OSError("name resolution failed")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(
        CheckpointError, match=r"owner/name: no such folder here.*name resolution failed.*give its folder"
    ):
        load("owner/name")


def test_a_hub_id_in_the_cache_needs_no_network(monkeypatch, tmp_path):
    import huggingface_hub

    def cached_only(*args, local_files_only=False, **kwargs):
        if not local_files_only:
            raise OSError("no network")
        return str(tmp_path)

    built("bert").save_pretrained(tmp_path)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", cached_only)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", cached_only)
    assert type(load("owner/name").model) is BertModel


PYTHON = """
import torch
from torch import nn

def good():
    return nn.Linear(3, 2).half().train(), (torch.ones(1, 3),), {}

def model_only():
    return nn.Linear(3, 2)

def diverged():
    model = nn.Linear(3, 2)
    model.weight.data[0] = float("nan")
    return model, (torch.ones(1, 3),), {}

def fails():
    raise RuntimeError("no luck")
"""


def test_a_function_in_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "zoo_for_test.py").write_text(PYTHON)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "zoo_for_test", raising=False)
    before = list(sys.path)
    loaded = load("python:zoo_for_test:good")
    assert loaded.model.weight.dtype == torch.float32
    assert not loaded.model.training
    assert load("python:zoo_for_test:good", weights=False).model.weight.is_meta
    assert sys.path == before
    bad = {
        "zoo_for_test:model_only": r"returned \(Linear\), not",
        "zoo_for_test:diverged": r"weight \(3 of 6 values\)",
        "zoo_for_test:fails": "RuntimeError: no luck",
        "zoo_for_test:absent": "absent",
        "no_such_module_anywhere:f": "no_such_module_anywhere",
        "zoo_for_test": "not of the form",
        ":f": "not of the form",
    }
    for target, message in bad.items():
        with pytest.raises(CheckpointError, match=message):
            load(f"python:{target}")


def test_timm_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.setitem(sys.modules, "timm.data", None)
    with pytest.raises(CheckpointError, match="pip install timm"):
        load("timm:resnet18")


def test_timm_by_name(monkeypatch):
    timm, data = types.ModuleType("timm"), types.ModuleType("timm.data")

    def create_model(name, pretrained):
        if name != "tiny":
            raise RuntimeError(f"Unknown model ({name})")
        return torch.nn.Conv2d(3, 4, 3)

    timm.create_model = create_model
    data.resolve_model_data_config = lambda model: {"input_size": (3, 16, 16)}
    monkeypatch.setitem(sys.modules, "timm", timm)
    monkeypatch.setitem(sys.modules, "timm.data", data)
    loaded = load("timm:tiny")
    assert loaded.model(*loaded.args).shape == (2, 4, 14, 14)
    with pytest.raises(CheckpointError, match="Unknown model"):
        load("timm:huge")


class Claimant(Adapter):
    model_types = ("claimed", "bert")


class Elsewhere(Distribution):
    def __init__(self, name):
        self._name = name

    @property
    def metadata(self):
        return {"Name": self._name, "Version": "1"}

    @property
    def name(self):
        return self._name

    @property
    def version(self):
        return "1"

    def read_text(self, filename):
        return None

    def locate_file(self, path):
        return path


def install(monkeypatch, **points):
    found = [
        EntryPoint(name, value, adapters.GROUP)._for(Elsewhere(name.split("_")[0])) for name, value in points.items()
    ]
    monkeypatch.setattr(adapters, "entry_points", lambda group: found)


def test_an_adapter_of_a_third_party_is_found(monkeypatch):
    install(monkeypatch, one=f"{__name__}:Claimant")
    assert type(adapter_for("claimed")).__name__ == "Claimant"
    assert type(adapter_for("other")) is Adapter
    assert [found.distribution for found in installed_adapters()] == ["one 1"]


def test_two_claims_are_refused_with_both_origins(monkeypatch):
    install(monkeypatch, one=f"{__name__}:Claimant", two=f"{__name__}:Claimant")
    with pytest.raises(AdapterError, match="'claimed' is claimed by 'one' of one 1 and 'two' of two 1"):
        adapter_for("claimed")
    assert type(adapter_for("other")) is Adapter


class Other(Adapter):
    model_types = ("other",)


def test_two_packages_with_one_name_are_refused_with_both_origins(monkeypatch):
    points = [("one", f"{__name__}:Claimant"), ("two", f"{__name__}:Other")]
    found = [EntryPoint("same", value, adapters.GROUP)._for(Elsewhere(name)) for name, value in points]
    monkeypatch.setattr(adapters, "entry_points", lambda group: found)
    for model_type in ("claimed", "other"):
        with pytest.raises(AdapterError, match=r"the name 'same' is taken by 'same' of (one|two) 1 and 'same' of"):
            adapter_for(model_type)
    assert type(adapter_for("neither")) is Adapter


@pytest.mark.parametrize(
    "value", ["no_such_package:Thing", f"{__name__}:Absent", f"{__name__}:Elsewhere", "json:dumps"]
)
def test_a_broken_adapter_is_named_where_it_might_matter(monkeypatch, value):
    install(monkeypatch, one=f"{__name__}:Claimant", broken=value)
    assert type(adapter_for("claimed")).__name__ == "Claimant"
    with pytest.raises(AdapterError, match="'broken' of broken 1"):
        adapter_for("other")


def test_inputs_that_cannot_be_guessed(tmp_path):
    class Odd(BertModel):
        main_input_name = "smells"

    with pytest.raises(AdapterError, match=r"'smells'.*python:"):
        Adapter().example_inputs(Odd(BertConfig(**TEXT)))


def test_example_inputs_depend_on_the_seed_alone(tmp_path):
    model = built("bert")
    first, again, other = (Adapter().example_inputs(model, seed=seed)[1]["input_ids"] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not bool((first == model.config.pad_token_id).any())


def tokenizer_files(folder):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", *(f"w{i}" for i in range(40))]
    (folder / "vocab.txt").write_text("\n".join(words))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')


def test_text_is_packed_between_the_special_tokens(tmp_path):
    built("bert").save_pretrained(tmp_path / "a")
    tokenizer_files(tmp_path / "a")
    (tmp_path / "texts").mkdir()
    for number in range(3):
        (tmp_path / "texts" / f"{number}.txt").write_text(" ".join(f"w{i % 40}" for i in range(60)))
    batches = load(str(tmp_path / "a")).calibration(tmp_path / "texts", batch_size=2)
    rows = torch.cat([batch["input_ids"] for batch in batches])
    assert rows.shape == (4, 38)  # 180 tokens in rows of 36 and two ends, 5 rows, 2 a batch
    assert rows[:, 0].tolist() == [2] * 4
    assert rows[:, -1].tolist() == [3] * 4
    assert bool((rows[:, 1:-1] > 4).all())


def test_images_are_read_by_the_image_processor(tmp_path):
    image = pytest.importorskip("PIL.Image")
    built("vit").save_pretrained(tmp_path / "a")
    processor = {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}}
    (tmp_path / "a" / "preprocessor_config.json").write_text(json.dumps(processor))
    (tmp_path / "pictures").mkdir()
    for number in range(5):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 50, 3), dtype=np.uint8)
        image.fromarray(pixels).save(tmp_path / "pictures" / f"{number}.png")
    loaded = load(str(tmp_path / "a"))
    shapes = [tuple(batch["pixel_values"].shape) for batch in loaded.calibration(tmp_path / "pictures")]
    assert shapes == [(4, 3, 32, 32)]
    (tmp_path / "pictures" / "bad.png").write_text("no image")
    with pytest.raises(CalibrationError, match=r"bad\.png: cannot be read as an image"):
        list(loaded.calibration(tmp_path / "pictures", batch_size=1))


def test_sound_is_read_by_the_feature_extractor(tmp_path):
    torch.manual_seed(0)
    WhisperModel(WhisperConfig(**WHISPER | {"max_source_positions": 50})).save_pretrained(tmp_path / "a")
    extractor = {"feature_extractor_type": "WhisperFeatureExtractor", "feature_size": 8, "chunk_length": 1}
    (tmp_path / "a" / "preprocessor_config.json").write_text(json.dumps(extractor))
    (tmp_path / "sounds").mkdir()
    soundfile.write(tmp_path / "sounds" / "a.wav", np.random.default_rng(0).normal(0, 0.1, 16_000 * 3), 16_000)
    loaded = load(str(tmp_path / "a"))
    (batch,) = loaded.calibration(tmp_path / "sounds", batch_size=3)
    assert tuple(batch["input_features"].shape) == (3, 8, 100)
    ids = batch["decoder_input_ids"]
    assert ids.shape == (3, 20)
    assert bool((ids[:, 0] == WHISPER["decoder_start_token_id"]).all())
    stream = loaded.model(batch["input_features"], decoder_input_ids=ids).last_hidden_state
    assert torch.equal((stream @ loaded.model.decoder.embed_tokens.weight.T).argmax(-1)[:, :-1], ids[:, 1:])
    (tmp_path / "a" / "preprocessor_config.json").write_text(json.dumps(extractor | {"chunk_length": 2}))
    with pytest.raises(CalibrationError, match="makes 200 frames of a window, and the model takes 100"):
        list(load(str(tmp_path / "a")).calibration(tmp_path / "sounds", batch_size=1))


def test_data_that_cannot_be_read_says_why(tmp_path):
    built("bert").save_pretrained(tmp_path / "a")
    (tmp_path / "texts").mkdir()
    loaded = load(str(tmp_path / "a"))
    with pytest.raises(CalibrationError, match="no such folder"):
        loaded.calibration(tmp_path / "absent")
    with pytest.raises(CalibrationError, match="has no vocabulary"):
        loaded.calibration(tmp_path / "texts")
    with pytest.raises(CalibrationError, match=r"processor \(AutoImageProcessor\) cannot be loaded"):
        read_batches(tmp_path, model=built("vit"), folder=tmp_path)
    tokenizer_files(tmp_path / "a")
    with pytest.raises(CalibrationError, match="no text files"):
        loaded.calibration(tmp_path / "texts")
    (tmp_path / "texts" / "a.txt").write_text("w1 w2")
    with pytest.raises(CalibrationError, match="2 tokens of text"):
        loaded.calibration(tmp_path / "texts")
    (tmp_path / "texts" / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CalibrationError, match="UTF-8"):
        loaded.calibration(tmp_path / "texts")
    with pytest.raises(CalibrationError, match="nothing is known of how Linear reads files"):
        read_batches(tmp_path, model=torch.nn.Linear(1, 1), folder=None)


def test_tied_weights_of_a_language_model_survive(tmp_path):
    model = built("gpt2")
    model.save_pretrained(tmp_path / "a")
    loaded = load(str(tmp_path / "a"))
    state = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
    out = write_merged(
        tmp_path / "out", state, report={}, config=loaded.config, architecture=loaded.architecture, force=False
    )
    assert "lm_head.weight" in open_checkpoint(out)
    again = load(str(out))
    assert again.model.lm_head.weight is again.model.transformer.wte.weight
