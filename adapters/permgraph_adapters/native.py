"""Families that transformers has its own classes for: every config field is known, ignored by name, or refused."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from permgraph.adapters import Adapter, Axis
from permgraph.errors import AdapterError, SpecMismatchError

HARMLESS = re.compile(
    r"""
    .*dropout.* | \w*layerdrop | initializer_\w+ | init_std | gradient_checkpointing | label_smoothing\w*    # training
    | apply_spec_augment | mask_(time|feature)_\w+ | use_cache
    | architectures | auto_map | transformers_version | torch_dtype | dtype | _name_or_path | tokenizer_class # house
    | processor_class | finetuning_task | task_specific_params | _attn_\w+ | attn_implementation | torchscript
    | unsloth_\w+ | _from_model_config | xla_device | sentence_transformers
    | use_bfloat16 | return_dict | use_return_dict | output_attentions | output_hidden_states | output_past
    | (pad|bos|eos|sep|cls|mask|unk)_token_id | id2label | label2id | _?num_labels | problem_type
    | max_length | min_length | max_new_tokens | do_sample | early_stopping | num_beams | num_beam_groups     # writing
    | diversity_penalty | temperature | top_k | top_p | typical_p | repetition_penalty | length_penalty | prefix
    | no_repeat_ngram_size | encoder_no_repeat_ngram_size | bad_words_ids | num_return_sequences | forced_\w+
    | suppress_tokens | begin_suppress_tokens | exponential_decay_length_penalty | remove_invalid_values
    | return_dict_in_generate | output_scores | tf_legacy_loss | median_filter_width
    | tie_word_embeddings                                                    # what becomes of heads is decided later
    """,
    re.VERBOSE,
)
"""Fields that leave the function of a model in eval mode alone, whatever they are."""


class NativeAdapter(Adapter):
    """A family of transformers' own, whose bare models give their residual stream out.

    A field that the config class has is represented by its model class. One that it lacks is refused unless it is
    `HARMLESS`, is among `spelled_otherwise` (which the config class translates) or `unused`, or has the value in
    `must_be`, with which the class computes the same function.
    """

    outputs = "free"
    spelled_otherwise: ClassVar[tuple[str, ...]] = ()
    unused: ClassVar[tuple[str, ...]] = ()
    must_be: ClassVar[Mapping[str, Any]] = {}

    def read_config(self, fields: Mapping[str, Any]) -> Any:
        """The config of these fields. Raises AdapterError naming the first that the class cannot represent."""
        must_be = {"pruned_heads": {}, "quantization_config": None, **self.must_be}
        config = super().read_config({name: value for name, value in fields.items() if name not in must_be})
        default = type(config)()
        for name, value in fields.items():
            wanted = must_be.get(name, "absent")
            same = value == wanted or (not value and not wanted)
            if not (same if name in must_be else self._is_known(name, default)):
                raise AdapterError(
                    f"config.json ({fields['model_type']}): {name} is {value!r}, and {type(config).__name__} can "
                    f"represent the model only where it is {wanted!r}. Merge checkpoints without it, or write an "
                    "adapter that knows it."
                )
        return config

    def require_alike(self, config_a: Any, config_b: Any) -> None:
        """Raise SpecMismatchError for the first field that is not harmless and differs."""
        require_same_fields(config_a, config_b, HARMLESS)

    def tie(self, model: Any) -> dict[Axis, Axis]:
        """A mask token that only training uses moves with the class token."""
        names = {name: parameter for name, parameter in model.named_parameters() if name.endswith("mask_token")}
        pairs = {name: name.removesuffix("mask_token") + "cls_token" for name in names}
        known = dict(model.named_parameters())
        return {(n, names[n].dim() - 1): (c, known[c].dim() - 1) for n, c in pairs.items() if c in known}

    def _is_known(self, name: str, default: Any) -> bool:
        named = (*self.spelled_otherwise, *self.unused, *default.attribute_map, "model_type")
        # A field of an older version is asked for last: the class warns of it.
        return name in named or HARMLESS.fullmatch(name) is not None or hasattr(default, name)


SIZES = re.compile(r"(hidden|intermediate)_size|(n|num)_.*(layers?|heads?)|n_embd|n_inner|d_model|\w*ffn_dim")
"""Fields that set the size of a part which can be enlarged."""


def require_same_fields(config_a: Any, config_b: Any, harmless: re.Pattern[str]) -> None:
    """Raise SpecMismatchError for the first field in which two configs differ, unless `harmless` matches its name."""
    a, b = ({} if config is None else config.to_dict() for config in (config_a, config_b))
    for name in dict.fromkeys([*a, *b]):
        if a.get(name) != b.get(name) and not harmless.fullmatch(name):
            sizes = a.get(name), b.get(name)
            smaller = SIZES.fullmatch(name) and all(type(size) is int for size in sizes) and sizes[1] < sizes[0]
            raise SpecMismatchError(
                f"the two models are not of one architecture: {name} is {sizes[0]!r} in the config.json of A and "
                f"{sizes[1]!r} in that of B. Merge models that agree on it"
                f"{', or enlarge B to A (--enlarge)' if smaller else ''}."
            )
