import json

import numpy as np
import pytest
import soundfile
import torch
from speech_folders import HUBERT_FIELDS, MERT_FIELDS, TINY, old_weight_norm, output, tiny, write_folder
from transformers import (
    AutoModel,
    HubertForCTC,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2ForPreTraining,
    Wav2Vec2Model,
)

from permgraph.adapters import adapter_for, installed_adapters
from permgraph.checkpoints.writing import write_merged
from permgraph.errors import CheckpointError
from permgraph.models.alike import input_differences
from permgraph.models.loading import load


@pytest.mark.parametrize("fields", [HUBERT_FIELDS, MERT_FIELDS], ids=["hubert", "mert"])
@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
@pytest.mark.parametrize("spelling", [dict, old_weight_norm])
def test_both_families_files_and_spellings_load(tmp_path, fields, suffix, spelling):
    model = tiny()
    loaded = load(str(write_folder(tmp_path / "a", spelling(model.state_dict()), fields, suffix)))
    assert type(loaded.model) is HubertModel
    assert not loaded.model.training
    assert torch.equal(output(loaded.model), output(model))
    assert loaded.outputs == "free"
    assert loaded.tie == {("masked_spec_embed", 0): ("encoder.layer_norm.weight", 0)}
    assert loaded.kwargs["input_values"].shape == (2, 16000)
    assert {t.dtype for t in loaded.model.state_dict().values()} == {torch.float32}


def test_a_ctc_head_stays_and_fixes_the_outputs(tmp_path):
    model = tiny(kind=HubertForCTC)
    fields = HUBERT_FIELDS | {"architectures": ["HubertForCTC"]}
    loaded = load(str(write_folder(tmp_path / "a", model.state_dict(), fields)))
    assert type(loaded.model) is HubertForCTC
    assert loaded.outputs == "fixed"
    assert loaded.tie == {("hubert.masked_spec_embed", 0): ("hubert.encoder.layer_norm.weight", 0)}
    assert torch.equal(output(loaded.model.hubert), output(model.hubert))


def test_heads_of_pretraining_are_left_out(tmp_path):
    torch.manual_seed(0)
    model = Wav2Vec2ForPreTraining(Wav2Vec2Config(**TINY)).eval()
    fields = {"model_type": "wav2vec2", "architectures": ["Wav2Vec2ForPreTraining"]}
    loaded = load(str(write_folder(tmp_path / "a", model.state_dict(), fields)))
    assert type(loaded.model) is Wav2Vec2Model
    assert torch.equal(output(loaded.model), output(model.wav2vec2))


def test_wav2vec2_loads_as_itself(tmp_path):
    model = tiny(kind=Wav2Vec2Model)
    loaded = load(str(write_folder(tmp_path / "a", model.state_dict(), {"model_type": "wav2vec2"})))
    assert type(loaded.model) is Wav2Vec2Model
    assert torch.equal(output(loaded.model), output(model))


def test_half_precision_becomes_float32(tmp_path):
    model = tiny()
    loaded = load(str(write_folder(tmp_path / "a", model.half().state_dict(), MERT_FIELDS)))
    assert torch.equal(output(loaded.model), output(model.float()))


@pytest.mark.parametrize(
    "variant",
    [{"feat_proj_layer_norm": False}, {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}],
)
def test_variants_that_hubert_can_represent(tmp_path, variant):
    model = tiny(**variant)
    loaded = load(str(write_folder(tmp_path / "a", model.state_dict(), MERT_FIELDS | variant)))
    assert torch.equal(output(loaded.model), output(model))


def test_code_beside_the_weights_never_runs(tmp_path):
    folder = write_folder(tmp_path / "a", tiny().state_dict(), MERT_FIELDS)
    for name in ("configuration_MERT.py", "modeling_MERT.py"):
        (folder / name).write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    load(str(folder))
    assert not (tmp_path / "ran").exists()


def test_without_weights_the_model_is_on_the_meta_device(tmp_path):
    folder = write_folder(tmp_path / "a", {}, MERT_FIELDS)
    loaded = load(str(folder), weights=False)
    assert {tensor.device.type for tensor in loaded.model.state_dict().values()} == {"meta"}
    shapes = {name: tensor.shape for name, tensor in loaded.model.state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in tiny().state_dict().items()}


def test_keys_that_do_not_fit_are_named_with_both_shapes(tmp_path):
    state = tiny().state_dict()
    del state["encoder.layer_norm.bias"]
    state["encoder.layer_norm.weight"] = torch.ones(7)
    state["surplus"] = torch.ones(1)
    folder = write_folder(tmp_path / "a", state, HUBERT_FIELDS)
    with pytest.raises(CheckpointError) as caught:
        load(str(folder))
    message = str(caught.value)
    assert "encoder.layer_norm.weight (file [7], HubertModel [32])" in message
    assert "missing from the files: encoder.layer_norm.bias" in message
    assert "not in HubertModel: surplus" in message


def test_both_spellings_of_one_weight_are_refused(tmp_path):
    state = tiny().state_dict()
    folder = write_folder(tmp_path / "a", {**old_weight_norm(state), **state}, HUBERT_FIELDS, ".bin")
    with pytest.raises(CheckpointError, match=r"weight_g.*original0"):
        load(str(folder))


def test_weights_that_are_not_finite_are_refused(tmp_path):
    state = tiny().state_dict()
    state["encoder.layer_norm.weight"][3] = float("nan")
    folder = write_folder(tmp_path / "a", state, HUBERT_FIELDS)
    with pytest.raises(CheckpointError, match=r"encoder\.layer_norm\.weight \(1 of 32 values\)"):
        load(str(folder))


def test_a_merged_folder_loads_as_hubert(tmp_path):
    a = load(str(write_folder(tmp_path / "a", tiny(0).state_dict(), MERT_FIELDS)))
    b = load(str(write_folder(tmp_path / "b", old_weight_norm(tiny(1).state_dict()), HUBERT_FIELDS)))
    (tmp_path / "a" / "preprocessor_config.json").write_text('{"sampling_rate": 16000}')
    mean = {name: (tensor + b.model.state_dict()[name]) / 2 for name, tensor in a.model.state_dict().items()}
    out = write_merged(
        tmp_path / "out",
        mean,
        report={"weight": 0.5},
        config=a.config,
        architecture=a.architecture,
        source=a.folder,
        base_models=[a.reference, "facebook/hubert-base-ls960"],
    )
    fields = json.loads((out / "config.json").read_text())
    assert (fields["model_type"], fields["architectures"], fields["dtype"]) == ("hubert", ["HubertModel"], "float32")
    assert "auto_map" not in fields
    assert str(tmp_path) not in "".join(path.read_text() for path in out.glob("*.[jm][sd]*"))
    assert (out / "preprocessor_config.json").is_file()
    assert "library_name: transformers" in (out / "README.md").read_text()
    again, problems = AutoModel.from_pretrained(out, output_loading_info=True)
    assert not any(problems.values())
    assert all(torch.equal(tensor, mean[name]) for name, tensor in again.state_dict().items())
    assert torch.equal(output(load(str(out)).model), output(again.eval()))


@pytest.mark.parametrize(("rate", "normalize"), [(16_000, True), (24_000, False)])
def test_calibration_follows_the_processor(tmp_path, rate, normalize):
    folder = write_folder(tmp_path / "a", tiny().state_dict(), HUBERT_FIELDS)
    (folder / "preprocessor_config.json").write_text(json.dumps({"sampling_rate": rate, "do_normalize": normalize}))
    (tmp_path / "sounds").mkdir()
    noise = np.random.default_rng(0).normal(0.1, 0.02, 16_000 * 21)
    soundfile.write(tmp_path / "sounds" / "a.wav", noise, 16_000)
    loaded = load(str(folder))
    batches = loaded.calibration(tmp_path / "sounds", batch_size=2)
    shapes = [tuple(batch["input_values"].shape) for batch in batches]
    assert shapes == [(2, rate * 5)] * 2
    assert abs(float(next(iter(batches))["input_values"].mean()) - (0.0 if normalize else 0.1)) < 1e-3


def test_models_that_hear_differently_are_told_apart(tmp_path):
    a = load(str(write_folder(tmp_path / "a", {}, HUBERT_FIELDS)), weights=False)
    b = load(str(write_folder(tmp_path / "b", {}, MERT_FIELDS | {"sample_rate": 24_000})), weights=False)
    assert input_differences(a, a) == ()
    (sentence,) = input_differences(a, b)
    assert "sampling_rate is 16000" in sentence
    assert "24000" in sentence


def test_the_adapter_is_found_through_the_entry_point():
    assert {type(adapter_for(name)).__name__ for name in ("hubert", "mert_model")} == {"HubertAdapter"}
    (found,) = [found for found in installed_adapters() if found.name == "hubert"]
    assert found.distribution.startswith("permgraph ")
