"""What HuBERT, MERT, wav2vec 2.0, WavLM and data2vec-audio share: encoders of raw waveforms, by one layout of names."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from permgraph.adapters import Adapter, Axis, Inputs
from permgraph.errors import AdapterError
from permgraph_adapters.native import require_same_fields

if TYPE_CHECKING:
    from torch import Tensor, nn

HANDLED = {
    "model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act",
    "layer_norm_eps", "feat_extract_norm", "feat_extract_activation", "feat_proj_layer_norm", "conv_dim",
    "conv_stride", "conv_kernel", "conv_bias", "conv_pos_batch_norm", "num_conv_pos_embeddings",
    "num_conv_pos_embedding_groups", "do_stable_layer_norm", "conv_pos_kernel_size", "num_buckets",
    "max_bucket_distance",
}  # fmt: skip
"""Fields that shape the function or its parameters, and that the config class represents."""

IGNORED = re.compile(
    r"""
    .*dropout.* | layerdrop | initializer_range | gradient_checkpointing | apply_spec_augment | mask_\w+   # training
    | no_mask_\w+ | replace_prob | freeze_\w+
    | ctc_\w+ | num_ctc_classes | num_negatives | contrastive_\w+ | diversity_\w+
    | (proj_)?codevector_dim | num_codevector\w+ | feature_extractor_cqt_bins
    | vocab_size | classifier_proj_size | use_weighted_layer_sum | tdnn_\w+ | xvector_\w+ | num_labels     # heads
    | id2label | label2id | problem_type | adapter_kernel_size | adapter_stride | num_adapter_layers
    | (pad|bos|eos|sep)_token_id | tokenizer_class | processor_class | finetuning_task                     # text
    | architectures | auto_map | transformers_version | torch_dtype | dtype | _name_or_path | _attn_\w+   # other
    | attn_implementation | return_dict | use_return_dict | output_attentions | output_hidden_states | use_cache
    | tie_word_embeddings | torchscript | use_bfloat16
    """,
    re.VERBOSE,
)
"""Fields that leave the function in eval mode alone, or that a head has; `adapter_*` because `add_adapter` is off."""

MUST_BE: dict[str, Any] = {
    "feature_extractor_cqt": False,
    "deepnorm": False,
    "feat_proj_layer_norm": True,
    "conv_pos_batch_norm": False,
    "add_adapter": False,
    "adapter_attn_dim": None,
    "pruned_heads": {},
    "is_decoder": False,
    "is_encoder_decoder": False,
    "add_cross_attention": False,
}
"""What a field that the config class lacks has to be for the function to be the class's own."""

WEIGHT_NORM = {
    ".conv.weight_g": ".conv.parametrizations.weight.original0",
    ".conv.weight_v": ".conv.parametrizations.weight.original1",
}
PRETRAINING = ("quantizer.", "project_hid.", "project_q.", "final_proj.", "label_embs_concat")
"""Heads of pre-training, which choose among drawn samples and are not part of any function that is kept."""


class SpeechAdapter(Adapter):
    """An encoder of waveforms whose outputs are the residual stream of its last layer, and free.

    Checkpoints with a head for CTC or classification keep it; heads of pre-training are left out. Subclasses name the
    transformers classes, as text, so that listing adapters imports nothing heavy.
    """

    outputs = "free"
    config_class: ClassVar[str]
    bare_class: ClassVar[str]
    old_prefix: ClassVar[str] = ""

    def read_config(self, fields: Mapping[str, Any]) -> Any:
        """The config of the same function; a field is handled, ignored by name, or refused.

        Raises AdapterError naming the first field that would change the function in a way the class cannot represent.
        """
        import transformers

        from permgraph.models.transformers_models import config_of

        kind = getattr(transformers, self.config_class)
        default = kind()
        for name, value in fields.items():
            _require_representable(name, value, fields, default)
        # Weights are loaded in float32, whatever they were stored in.
        known = {n: value for n, value in fields.items() if n not in ("torch_dtype", "dtype") and hasattr(default, n)}
        return config_of(kind, {**known, "model_type": kind.model_type})

    def model_classes(self, config: Any) -> Sequence[type["nn.Module"]]:
        """The class that the checkpoint names, unless it is one of pre-training; then the bare encoder."""
        import transformers

        named = [name for name in config.architectures or () if "ForPreTraining" not in name]
        kinds = [getattr(transformers, name, None) for name in (*named, self.bare_class)]
        return [kind for kind in dict.fromkeys(kinds) if kind is not None]

    def rename(self, names: Iterable[str]) -> dict[str, str]:
        """Without the heads of pre-training, and weight norm in its current spelling."""
        renamed = {}
        for name in names:
            new = name.removeprefix(self.old_prefix)
            ends = [(old, now) for old, now in WEIGHT_NORM.items() if new.endswith(old)]
            if not new.startswith(PRETRAINING):
                renamed[name] = new.removesuffix(ends[0][0]) + ends[0][1] if ends else new
        return renamed

    def example_inputs(self, model: "nn.Module", *, seed: int = 0) -> Inputs:
        """Two waveforms of 16,000 samples of noise."""
        import torch

        return (), {"input_values": torch.randn(2, 16_000, generator=torch.Generator().manual_seed(seed))}

    def tie(self, model: "nn.Module") -> dict[Axis, Axis]:
        """The mask embedding replaces frames of the residual stream in training, so it moves with it."""
        end = "masked_spec_embed"
        masks = [name for name, _ in model.named_parameters() if name.endswith(end)]
        return {(name, 0): (name.removesuffix(end) + "encoder.layer_norm.weight", 0) for name in masks}

    def require_alike(self, config_a: Any, config_b: Any) -> None:
        """Raise SpecMismatchError for the first field that differs and is not ignored."""
        require_same_fields(config_a, config_b, IGNORED)

    def input_facts(self, folder: Path | None, config: Any) -> dict[str, Any]:
        """`sampling_rate` (Hz) and `do_normalize`: the processor's file, else `config.json`, else 16000 and True."""
        from permgraph.checkpoints.json_files import read_json

        found: dict[str, Any] = {}
        for name in ("config.json", "preprocessor_config.json"):
            if folder is not None and (folder / name).is_file():
                found |= read_json(folder / name)
        rate = found.get("sampling_rate", found.get("sample_rate", 16_000))
        if not (isinstance(rate, int) or (isinstance(rate, float) and rate.is_integer())) or rate < 1:
            raise AdapterError(
                f"{folder}: the sampling rate is {rate!r:.50}, not a whole number of Hz: correct it in "
                "preprocessor_config.json or config.json"
            )
        return {"sampling_rate": int(rate), "do_normalize": bool(found.get("do_normalize", True))}

    def calibration(
        self, data: Path, *, model: "nn.Module", folder: Path | None, **options: Any
    ) -> Iterable[dict[str, "Tensor"]]:
        """Windows of 5 s at the model's rate, normalized as its feature extractor does; see `permgraph.data.audio`."""
        from permgraph.data.audio import AudioBatches

        facts = self.input_facts(folder, None)
        return AudioBatches(data, rate=facts["sampling_rate"], normalize=facts["do_normalize"], **options)


def _require_representable(name: str, value: Any, fields: Mapping[str, Any], default: Any) -> None:
    wanted: Any
    if IGNORED.fullmatch(name) or name == "sample_rate":
        return
    known = hasattr(default, name)
    if known and name in HANDLED:
        return
    if name == "attention_relax":
        accepted, wanted = isinstance(value, int | float) and value <= 0, "at most 0"
    elif name == "num_feat_extract_layers":
        sizes = fields.get("conv_dim", default.conv_dim)
        wanted = len(sizes) if isinstance(sizes, list | tuple) else value  # the config class refuses other sizes
        accepted = value == wanted
    elif name == "output_hidden_size":
        wanted = fields.get("hidden_size", default.hidden_size)
        accepted = value in (None, wanted)
    elif name in MUST_BE:
        accepted, wanted = bool(value) == bool(MUST_BE[name]), MUST_BE[name]
    else:
        wanted = getattr(default, name, "absent")
        accepted = known and value == wanted
    if not accepted:
        raise AdapterError(
            f"config.json ({fields['model_type']}): {name} is {value!r}, and {type(default).__name__} can represent "
            f"the model only where it is {wanted!r}. Merge checkpoints without it, or write an adapter that knows it."
        )
