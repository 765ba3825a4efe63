"""First-party adapters: published configs are read, fields that change the function are refused, pairs are proved."""

import json
import logging

import folders
import pytest
import transformers
from tiny_models import WHISPER
from typer.testing import CliRunner

import permgraph as pg
from permgraph.adapters import adapter_for
from permgraph.cli.app import app
from permgraph.errors import AdapterError, SpecMismatchError
from permgraph.models.alike import require_alike
from permgraph.models.loading import load

DISTIL = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "vocab_size": 50, "max_position_embeddings": 40}
GQA = folders.TEXT | {"num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0}
DINO = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 32, "patch_size": 16}
SPEECH = {name: value for name, value in folders.SPEECH.items() if name != "num_conv_pos_embeddings"}

FAMILIES = {
    # model type: sizes, bare class, class with a head
    "bert": (folders.TEXT, "BertModel", "BertForTokenClassification"),
    "roberta": (folders.TEXT, "RobertaModel", "RobertaForMaskedLM"),
    "distilbert": (DISTIL, "DistilBertModel", "DistilBertForSequenceClassification"),
    "electra": (folders.TEXT | {"embedding_size": 16}, "ElectraModel", "ElectraForPreTraining"),
    "vit": (folders.IMAGE, "ViTModel", "ViTForImageClassification"),
    "deit": (folders.IMAGE, "DeiTModel", "DeiTForImageClassification"),
    "dinov2": (DINO | {"use_mask_token": True}, "Dinov2Model", "Dinov2ForImageClassification"),
    "llama": (GQA, "LlamaModel", "LlamaForCausalLM"),
    "mistral": (GQA, "MistralModel", "MistralForCausalLM"),
    "qwen2": (folders.TEXT | {"num_key_value_heads": 2}, "Qwen2Model", "Qwen2ForCausalLM"),
    "whisper": (WHISPER, "WhisperModel", "WhisperForConditionalGeneration"),
    "wav2vec2": (folders.SPEECH, "Wav2Vec2Model", "Wav2Vec2ForCTC"),
    "wavlm": (folders.SPEECH, "WavLMModel", "WavLMForSequenceClassification"),
    "data2vec-audio": (SPEECH | {"num_conv_pos_embeddings": 3}, "Data2VecAudioModel", "Data2VecAudioForCTC"),
    "hubert": (folders.SPEECH, "HubertModel", "HubertForSequenceClassification"),
}
QUICK = ("bert", "vit", "llama", "wav2vec2")


def pair(tmp_path, model_type, kind):
    sizes = FAMILIES[model_type][0]
    for seed, name in enumerate("ab"):
        folders.checkpoint(tmp_path / name, kind, sizes, seed=seed)
    return tmp_path / "a", tmp_path / "b"


def quick_first(model_type):
    return model_type if model_type in QUICK else pytest.param(model_type, marks=pytest.mark.slow)


@pytest.mark.parametrize("model_type", [quick_first(name) for name in FAMILIES])
def test_bare_models_are_free_and_merge_with_proof(tmp_path, model_type):
    a, b = pair(tmp_path, model_type, FAMILIES[model_type][1])
    loaded = load(str(a))
    assert loaded.outputs == "free"
    assert type(loaded.adapter).__module__.startswith("permgraph_adapters.")
    spec = pg.derive(loaded.model, loaded.args, loaded.kwargs, outputs="free", tie=loaded.tie)
    assert any(group.role == "residual" for group in spec.groups), str(spec)
    mask = [name for name in loaded.model.state_dict() if name.endswith(("mask_token", "masked_spec_embed"))]
    assert all(any(axis[0] == name for group in spec.groups for axis in group.axes) for name in mask)
    result = CliRunner().invoke(app, ["merge", str(a), str(b), "--out", str(tmp_path / "out"), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["certificate"]["ok"]
    again, problems = transformers.AutoModel.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert type(again) is type(loaded.model)
    assert not any(problems.values())


@pytest.mark.parametrize("model_type", [quick_first(name) for name in FAMILIES])
def test_outputs_of_a_head_are_fixed(tmp_path, model_type):
    a, _ = pair(tmp_path, model_type, FAMILIES[model_type][2])
    loaded = load(str(a))
    assert loaded.outputs == "fixed"
    assert pg.verify(loaded.model, loaded.args, loaded.kwargs, trials=1).ok


# What published configs hold beside the sizes.
HOUSE = {"transformers_version": "4.40.0", "torch_dtype": "float32", "_name_or_path": "x/y"}
PUBLISHED = {
    "bert": {
        "architectures": ["BertForMaskedLM"],
        "attention_probs_dropout_prob": 0.1,
        "gradient_checkpointing": False,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "model_type": "bert",
        "pad_token_id": 0,
        "position_embedding_type": "absolute",
        "type_vocab_size": 2,
        "use_cache": True,
        "directionality": "bidi",
        "pooler_fc_size": 768,
        "pooler_num_attention_heads": 12,
        "pooler_num_fc_layers": 3,
        "pooler_size_per_head": 128,
        "pooler_type": "first_token_transform",
    },
    "roberta": {
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 1,
        "type_vocab_size": 1,
        "classifier_dropout": None,
    },
    "distilbert": {
        "activation": "gelu",
        "attention_dropout": 0.1,
        "dim": 768,
        "hidden_dim": 3072,
        "n_heads": 12,
        "n_layers": 6,
        "qa_dropout": 0.1,
        "seq_classif_dropout": 0.2,
        "sinusoidal_pos_embds": False,
        "tie_weights_": True,
    },
    "electra": {"embedding_size": 128, "summary_activation": "gelu", "summary_type": "first", "summary_use_proj": True},
    "vit": {
        "encoder_stride": 16,
        "id2label": {"0": "tench", "1": "goldfish"},
        "label2id": {"tench": 0, "goldfish": 1},
        "image_size": 224,
        "patch_size": 16,
        "num_channels": 3,
        "qkv_bias": True,
        "problem_type": None,
    },
    "dinov2": {
        "apply_layernorm": True,
        "layerscale_value": 1.0,
        "mlp_ratio": 4,
        "out_indices": [12],
        "use_swiglu_ffn": False,
    },
    "llama": {
        "attention_bias": False,
        "bos_token_id": 128000,
        "eos_token_id": 128001,
        "hidden_act": "silu",
        "mlp_bias": False,
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "tie_word_embeddings": False,
        "rope_scaling": {
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "rope_type": "llama3",
            "original_max_position_embeddings": 8192,
        },
    },
    "mistral": {"sliding_window": 4096, "rope_theta": 10000.0, "num_key_value_heads": 8, "hidden_act": "silu"},
    "qwen2": {
        "use_mrope": False,
        "unsloth_version": "2024.9",
        "max_window_layers": 28,
        "use_sliding_window": False,
        "rope_theta": 1e6,
        "sliding_window": 131072,
    },
    "whisper": {
        "activation_function": "gelu",
        "begin_suppress_tokens": [220, 50257],
        "decoder_layerdrop": 0.0,
        "encoder_layerdrop": 0.0,
        "forced_decoder_ids": [[1, 50259]],
        "init_std": 0.02,
        "is_encoder_decoder": True,
        "max_length": 448,
        "num_hidden_layers": 4,
        "scale_embedding": False,
        "suppress_tokens": [1, 2, 7],
    },
    "wav2vec2": {
        "architectures": ["Wav2Vec2ForPreTraining"],
        "codevector_dim": 256,
        "contrastive_logits_temperature": 0.1,
        "diversity_loss_weight": 0.1,
        "num_codevector_groups": 2,
        "num_negatives": 100,
        "freeze_feat_extract_train": True,
        "mask_channel_length": 10,
        "mask_time_prob": 0.05,
        "no_mask_channel_overlap": False,
        "num_feat_extract_layers": 7,
    },
    "wavlm": {
        "num_buckets": 320,
        "max_bucket_distance": 800,
        "replace_prob": 0.5,
        "num_ctc_classes": 80,
    },
    "data2vec-audio": {"conv_pos_kernel_size": 19, "num_conv_pos_embeddings": 5, "num_conv_pos_embedding_groups": 16},
}


@pytest.mark.parametrize("model_type", PUBLISHED)
def test_fields_of_published_configs_are_known(model_type):
    config = adapter_for(model_type).read_config(HOUSE | PUBLISHED[model_type] | {"model_type": model_type})
    assert config.model_type == model_type


def test_a_field_of_an_older_version_is_taken_without_a_warning():
    told = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = told.append
    logger = logging.getLogger("transformers")
    transformers.logging.warning_once.cache_clear()
    logger.addHandler(handler)
    try:
        adapter_for("bert").read_config({"model_type": "bert", "torch_dtype": "float16"})
    finally:
        logger.removeHandler(handler)
    assert not told


REFUSED = [
    ("bert", "position_embedding_type", "relative_key"),
    ("bert", "pruned_heads", {"1": [0]}),
    ("bert", "quantization_config", {"bits": 4}),
    ("bert", "a_field_from_the_future", 1),
    ("roberta", "adapters", {"x": 1}),
    ("vit", "use_register_tokens", True),
    ("llama", "attn_logit_softcapping", 50.0),
    ("qwen2", "use_qk_norm", True),
    ("qwen2", "use_mrope", True),
    ("whisper", "relative_positions", True),
    ("wavlm", "add_adapter", True),
    ("data2vec-audio", "output_hidden_size", 48),
]


@pytest.mark.parametrize(("model_type", "field", "value"), REFUSED)
def test_a_field_that_the_class_cannot_represent_is_refused_by_name(model_type, field, value):
    with pytest.raises(AdapterError, match=rf"\({model_type}\): {field} is ") as caught:
        adapter_for(model_type).read_config({"model_type": model_type, field: value})
    assert repr(value) in str(caught.value)
    assert "write an adapter" in str(caught.value)


DIFFERENT = {
    "bert": (folders.TEXT, "BertModel", {"hidden_act": "relu"}, {"attention_probs_dropout_prob": 0.3}),
    "vit": (folders.IMAGE, "ViTModel", {"layer_norm_eps": 1e-3}, {"id2label": {0: "cat"}}),
    "llama": (
        GQA,
        "LlamaForCausalLM",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
        {"use_cache": False},
    ),
    "whisper": (WHISPER, "WhisperModel", {"scale_embedding": True}, {"max_length": 9}),
    "hubert": (folders.SPEECH, "HubertModel", {"hidden_act": "relu"}, {"mask_time_prob": 0.5}),
}


@pytest.mark.parametrize("model_type", DIFFERENT)
def test_configs_that_differ_in_what_they_compute_are_refused_by_name(tmp_path, model_type):
    sizes, kind, changed, harmless = DIFFERENT[model_type]
    a = load(str(folders.checkpoint(tmp_path / "a", kind, sizes)), weights=False)
    b = load(str(folders.checkpoint(tmp_path / "b", kind, sizes | changed)), weights=False)
    c = load(str(folders.checkpoint(tmp_path / "c", kind, sizes | harmless)), weights=False)
    (field,) = changed
    with pytest.raises(SpecMismatchError, match=rf"not of one architecture: {field} is .* of A and .* in that of B"):
        require_alike(a, b)
    assert require_alike(a, c) == ()


def test_images_that_are_made_otherwise_are_told(tmp_path):
    for name, mean in (("a", [0.5, 0.5, 0.5]), ("b", [0.4, 0.4, 0.4])):
        folders.vit(tmp_path / name)
        path = tmp_path / name / "preprocessor_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"image_mean": mean}))
    a, b = (load(str(tmp_path / name), weights=False) for name in "ab")
    (warning,) = require_alike(a, b)
    assert warning.startswith("image_mean is [0.5, 0.5, 0.5] in ")
    assert warning.endswith("both will be given the inputs of the first")


def test_a_model_made_by_code_has_the_outputs_of_its_family(tmp_path, monkeypatch):
    source = "import torch\nfrom transformers import BertConfig, BertForMaskedLM, BertModel\n"
    sizes = f"BertConfig(**{folders.TEXT})"
    source += f"def bare():\n    return BertModel({sizes}).eval(), (), {{'input_ids': torch.arange(5, 15)[None]}}\n"
    source += (
        f"def head():\n    return BertForMaskedLM({sizes}).eval(), (), {{'input_ids': torch.arange(5, 15)[None]}}\n"
    )
    (tmp_path / "families_by_code.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    assert load("python:families_by_code:bare").outputs == "free"
    assert load("python:families_by_code:head").outputs == "fixed"
