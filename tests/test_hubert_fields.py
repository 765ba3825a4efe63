"""Fields of a speech encoder's config and processor: refused by name where they change the function."""

import json

import pytest
from speech_folders import HUBERT_FIELDS, MERT_FIELDS, write_folder

from permgraph.errors import AdapterError
from permgraph.models.loading import load

REFUSED = [
    ("mert_model", "feature_extractor_cqt", True),
    ("mert_model", "deepnorm", True),
    ("mert_model", "attention_relax", 32.0),
    ("mert_model", "num_feat_extract_layers", 6),
    ("mert_model", "a_field_from_the_future", 1),
    ("hubert", "pruned_heads", {"0": [1]}),
    ("hubert", "is_decoder", True),
    ("hubert", "quantization_config", {"bits": 4}),
    ("hubert", "chunk_size_feed_forward", 7),
    ("wav2vec2", "add_adapter", True),
    ("wav2vec2", "adapter_attn_dim", 16),
    ("wav2vec2", "output_hidden_size", 48),
    ("wav2vec2", "feat_proj_layer_norm", False),
]


@pytest.mark.parametrize(("model_type", "field", "value"), REFUSED)
def test_a_field_that_changes_the_function_is_refused_by_name(tmp_path, model_type, field, value):
    folder = write_folder(tmp_path / "a", {}, {"model_type": model_type, field: value})
    with pytest.raises(AdapterError, match=rf"\({model_type}\): {field} is ") as caught:
        load(str(folder), weights=False)
    assert repr(value) in str(caught.value)


HARMLESS = {
    "pruned_heads": {},
    "deepnorm": None,
    "attention_relax": 0,
    "num_feat_extract_layers": 7,
    "hidden_dropout": 0.3,
    "mask_time_selection": "static",
    "vocab_size": 99,
    "output_hidden_states": True,
    "use_cache": False,
    "label2id": {"yes": 0},
}


@pytest.mark.parametrize(("field", "value"), HARMLESS.items())
def test_a_field_that_leaves_the_function_alone_is_accepted(tmp_path, field, value):
    folder = write_folder(tmp_path / "a", {}, MERT_FIELDS | {field: value})
    load(str(folder), weights=False)


@pytest.mark.parametrize(("field", "value"), [("conv_stride", [5, 2]), ("conv_dim", 0.5), ("conv_dim", None)])
def test_a_value_that_the_config_class_refuses(tmp_path, field, value):
    folder = write_folder(tmp_path / "a", {}, HUBERT_FIELDS | {field: value} | {"num_feat_extract_layers": 7})
    with pytest.raises(AdapterError, match=field):
        load(str(folder), weights=False)


@pytest.mark.parametrize("rate", [None, 0, -1, 0.5, "16 kHz", [16000], float("nan"), float("inf")])
def test_a_sampling_rate_that_is_none(tmp_path, rate):
    folder = write_folder(tmp_path / "a", {}, HUBERT_FIELDS)
    (folder / "preprocessor_config.json").write_text(json.dumps({"sampling_rate": rate}))
    with pytest.raises(AdapterError, match="the sampling rate is "):
        load(str(folder), weights=False)
