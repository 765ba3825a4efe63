"""HuBERT, MERT and wav2vec 2.0: speech and music encoders on raw waveforms.

MERT (`model_type` "mert_model") comes with a class in code beside its weights. That code is never run: its config is
read as JSON and mapped to HuBERT's, which computes the same function unless one of MERT's own switches is on.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from permgraph.adapters import Adapter, Axis, Inputs
from permgraph.errors import AdapterError

if TYPE_CHECKING:
    from torch import Tensor, nn

HANDLED = {
    "model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act",
    "layer_norm_eps", "feat_extract_norm", "feat_extract_activation", "feat_proj_layer_norm", "conv_dim",
    "conv_stride", "conv_kernel", "conv_bias", "conv_pos_batch_norm", "num_conv_pos_embeddings",
    "num_conv_pos_embedding_groups", "do_stable_layer_norm",
}  # fmt: skip
"""Fields that shape the function or its parameters, and that the config class represents."""

IGNORED = re.compile(
    r"""
    .*dropout.* | layerdrop | initializer_range | gradient_checkpointing | apply_spec_augment | mask_\w+   # training
    | no_mask_\w+ | freeze_\w+ | ctc_\w+ | num_ctc_classes | num_negatives | contrastive_\w+ | diversity_\w+
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
"""Fields that leave the encoder's function in eval mode alone; `adapter_*` because `add_adapter` must be off."""

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
BASE_PREFIXES = ("hubert.", "wav2vec2.", "mert_model.")


class HubertAdapter(Adapter):
    """HuBERT and MERT as `HubertModel`, wav2vec 2.0 as `Wav2Vec2Model`; heads of fine-tuned checkpoints are left out.

    The outputs are free: they are the residual stream of the last layer.
    """

    model_types = ("hubert", "mert_model", "wav2vec2")
    outputs = "free"

    def read_config(self, fields: Mapping[str, Any]) -> Any:
        """`HubertConfig` (or `Wav2Vec2Config`) of the same function; a field is handled, ignored by name, or refused.

        Raises AdapterError naming the first field that would change the function in a way the class cannot represent.
        """
        from transformers import HubertConfig, Wav2Vec2Config

        from permgraph.models.transformers_models import config_of

        kind = Wav2Vec2Config if fields["model_type"] == "wav2vec2" else HubertConfig
        default = kind()
        for name, value in fields.items():
            _require_representable(name, value, fields, default)
        # Weights are loaded in float32, whatever they were stored in.
        known = {n: value for n, value in fields.items() if n not in ("torch_dtype", "dtype") and hasattr(default, n)}
        return config_of(kind, {**known, "model_type": kind.model_type})

    def model_classes(self, config: Any) -> Sequence[type["nn.Module"]]:
        """The bare encoder, whatever head the checkpoint had."""
        from transformers import HubertModel, Wav2Vec2Model

        return (Wav2Vec2Model if config.model_type == "wav2vec2" else HubertModel,)

    def rename(self, names: Iterable[str]) -> dict[str, str]:
        """Without the base prefix (then without the head beside it), and weight norm in its current spelling."""
        names = list(names)
        prefix = next((p for p in BASE_PREFIXES if any(name.startswith(p) for name in names)), "")
        renamed = {name: name.removeprefix(prefix) for name in names if name.startswith(prefix)}
        for name, new in renamed.items():
            for old_end, new_end in WEIGHT_NORM.items():
                if new.endswith(old_end):
                    renamed[name] = new.removesuffix(old_end) + new_end
        return renamed

    def example_inputs(self, model: "nn.Module", *, seed: int = 0) -> Inputs:
        """Two waveforms of 16,000 samples of noise."""
        import torch

        return (), {"input_values": torch.randn(2, 16_000, generator=torch.Generator().manual_seed(seed))}

    def tie(self, model: "nn.Module") -> dict[Axis, Axis]:
        """The mask embedding replaces frames of the residual stream in training, so it moves with it."""
        stream = ("encoder.layer_norm.weight", 0)
        return {("masked_spec_embed", 0): stream} if hasattr(model, "masked_spec_embed") else {}

    def input_facts(self, folder: Path | None, config: Any) -> dict[str, Any]:
        """`sampling_rate` (Hz) and `do_normalize`: the processor's file, else `config.json`, else 16000 and True."""
        from permgraph.checkpoints.weight_files import read_json

        found: dict[str, Any] = {}
        for name in ("config.json", "preprocessor_config.json"):
            if folder is not None and (folder / name).is_file():
                found |= read_json(folder / name)
        rate = found.get("sampling_rate", found.get("sample_rate", 16_000))
        return {"sampling_rate": int(rate), "do_normalize": bool(found.get("do_normalize", True))}

    def calibration(
        self,
        data: Path,
        *,
        model: "nn.Module",
        folder: Path | None,
        seed: int = 0,
        batch_size: int = 4,
        limit: int | None = None,
    ) -> Iterable[dict[str, "Tensor"]]:
        """Windows of 5 s at the model's rate, normalized as its feature extractor does; see `permgraph.data.audio`."""
        from permgraph.data.audio import AudioBatches

        facts = self.input_facts(folder, None)
        return AudioBatches(
            data,
            rate=facts["sampling_rate"],
            normalize=facts["do_normalize"],
            batch_size=batch_size,
            seed=seed,
            limit=limit,
        )


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
        wanted = len(fields.get("conv_dim", default.conv_dim))
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
