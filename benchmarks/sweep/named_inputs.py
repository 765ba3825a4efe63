"""Example inputs of a model of transformers: for each input that its forward pass names, tensors that may fit.

Tried in turn (`candidates`): the inputs that `permgraph` itself guesses, those of them that are text, those that the
signature requires, and all that are known here; each with the forms that such an input may have (a waveform with and
without channels, a spectrogram either way round). What depends on the values of inputs is computed beforehand, as
transformers' own exporter does it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice, product
from typing import Any

import torch
from small_configs import LENGTH, WIDTH, WORDS
from torch import Tensor, nn
from transformers.exporters.utils import precompute_export_inputs

from permgraph.data.example_inputs import guess_inputs
from permgraph.data.image_inputs import image_token
from permgraph.errors import AdapterError

MOST_FORMS = 16
QUERIES = 4
GRID = 4  # patches along each side of an image that is given as patches
OTHERWISE = {"inputs_embeds": "input_ids", "hidden_states": "input_ids", "encoder_hidden_states": "input_ids"}
Inputs = dict[str, Any]


def candidates(model: nn.Module) -> Iterator[Inputs]:
    """Sets of inputs, the likeliest first."""
    accepted = inspect.signature(model.forward).parameters
    guessed = _guessed(model, accepted)
    text = {name: value for name, value in guessed.items() if name != "pixel_values"}
    yield from (inputs for inputs in (guessed, text) if inputs)
    known = [name for name in accepted if name in MAKERS and not (name in OTHERWISE and OTHERWISE[name] in accepted)]
    required = [name for name in known if accepted[name].default is inspect.Parameter.empty]
    main = getattr(model, "main_input_name", "input_ids")
    main = [main] if isinstance(main, str) else main
    decoded = ["decoder_input_ids"] if getattr(model.config, "is_encoder_decoder", False) else []
    needed = [name for name in known if name in {*required, *main, *decoded}]
    one_sound = [name for name in known if name != "input_features"]
    for names in dict.fromkeys((tuple(needed), tuple(known), tuple(one_sound))):
        forms = [_forms(name, model) for name in names]
        for values in islice(product(*forms), MOST_FORMS):
            yield {name: value for name, value in zip(names, values, strict=True) if value is not None}


def runs(model: nn.Module) -> Inputs:
    """The first inputs on which the model runs; raises what it raised on the first of them."""
    problems: list[Exception] = []
    for inputs in candidates(model):
        try:
            return _run(model, inputs)
        except Exception as error:  # whatever a model's own code raises
            problems.append(error)
    if not problems:
        main = getattr(model, "main_input_name", None)
        raise AdapterError(f"no input of {type(model).__name__} is known; its main input is {main}")
    raise problems[0]


def _run(model: nn.Module, inputs: Inputs) -> Inputs:
    """These inputs, with as many image tokens in the text as the model has features of the image."""
    inputs = dict(inputs)
    with suppress(Exception):  # a family's own code, which may not know these inputs
        precomputed = dict(inputs)
        precompute_export_inputs(model, precomputed)
        inputs = precomputed
    try:
        with torch.no_grad():
            model(**inputs)
    except ValueError as error:
        found = re.search(r"tokens: 0, features:? \[?(\d+)", str(error))
        if not found or "input_ids" not in inputs:
            raise
        return _run(model, _with_image_tokens(model, inputs, int(found[1])))
    return inputs


def _with_image_tokens(model: nn.Module, inputs: Inputs, count: int) -> Inputs:
    config: Any = model.config
    names = ("image_token_id", "image_token_index")
    image = next(getattr(config, name) for name in names if getattr(config, name, None) is not None)
    ids = torch.cat([inputs["input_ids"][:, :2], torch.full((1, count), image), inputs["input_ids"][:, 2:]], 1)
    return (
        inputs | {"input_ids": ids} | ({"attention_mask": torch.ones_like(ids)} if "attention_mask" in inputs else {})
    )


def _forms(name: str, model: nn.Module) -> list[Any]:
    """The forms of an input; none where the configuration lacks what they are made from."""
    with suppress(AttributeError):
        return MAKERS[name](model)
    return [None]


def _guessed(model: nn.Module, accepted: Any) -> Inputs:
    """What `permgraph` guesses, short."""
    try:
        _, kwargs = guess_inputs(model)
    except Exception:
        return {}
    if image_token(model) is not None and "pixel_values" in kwargs:
        return kwargs  # as many tokens as the images have features
    short = {name: _short(name, value) for name, value in kwargs.items()}
    if "input_ids" in short and "attention_mask" in accepted:
        short["attention_mask"] = torch.ones_like(short["input_ids"])
    return short


def _short(name: str, value: Tensor) -> Tensor:
    if name in ("input_ids", "decoder_input_ids"):
        return value[:1, :LENGTH]
    return value[:1, :4000] if name == "input_values" and value.dim() == 2 else value[:1]


def _number(model: nn.Module, *names: str, default: int = 0) -> int:
    """The first of these fields that is a number in the configuration or, in turn, in its parts."""
    config: Any = model.config
    parts = [config, *(part for part in vars(config).values() if hasattr(part, "model_type"))]
    for part in parts:
        for name in names:
            value = getattr(part, name, None)
            value = value[-1] if isinstance(value, list | tuple) and value else value
            if isinstance(value, int) and not isinstance(value, bool):
                return value
    return default


def _ids(model: nn.Module) -> list[Tensor]:
    words = min(_number(model, "vocab_size", default=WORDS), WORDS)
    return [torch.arange(3, 3 + LENGTH)[None] % (words - 3)]


def _images(model: nn.Module) -> list[Tensor]:
    """A clip; an image; a larger one; patches of one; two images."""
    size, patch = _number(model, "image_size", default=64), _number(model, "patch_size", default=8)
    channels = _number(model, "num_channels", "in_channels", "in_chans", default=3)
    frames = _number(model, "num_frames", "frames_per_clip")
    clip = [torch.randn(1, frames, channels, size, size)] if frames else []
    images = [torch.randn(1, channels, side, side) for side in (size, 2 * size)]
    packed = torch.randn(1, GRID * GRID, channels * patch * patch)
    return [*clip, *images, *_patches(model), packed, torch.randn(1, 2, channels, size, size)]


def _patches(model: nn.Module) -> list[Tensor]:
    """The patches of one image, as vectors or as small images."""
    patch, channels = _number(model, "patch_size", default=8), _number(model, "num_channels", "in_channels", default=3)
    time = _number(model, "temporal_patch_size", "patch_temporal", default=1)
    flat = torch.randn(GRID * GRID, channels * patch * patch * time)
    return [
        flat,
        flat[:, : channels * patch * patch],
        flat[:, : channels * patch * patch].view(-1, channels, patch, patch),
    ]


def _clip(model: nn.Module) -> list[Tensor]:
    frames, channels = (
        _number(model, "num_frames", "frames_per_clip", default=4),
        _number(model, "num_channels", default=3),
    )
    sizes = _number(model, "image_size", "crop_size", default=64), 224
    return [torch.randn(1, frames, channels, size, size) for size in sizes]


def _wave(model: nn.Module) -> list[Tensor]:
    return [torch.randn(1, 1, 4000), torch.randn(1, 4000), torch.randn(1, 3840)]


def _frames(model: nn.Module) -> int:
    return 2 * _number(model, "max_source_positions", default=32)


def _spectrogram(model: nn.Module) -> list[Tensor]:
    names = ("feature_projection_input_dim", "num_mel_bins", "n_mels", "input_feat_size", "input_dim", "feat_size")
    either = [torch.randn(1, _frames(model), mel) for mel in (_number(model, *names, default=80), 128)]
    return [*(form for frames in either for form in (frames, frames.mT.contiguous())), either[0][None]]


def _codes(model: nn.Module) -> list[Tensor]:
    """Token ids; ids in several codebooks, beside or below each other."""
    ids, books = _ids(model)[0], _number(model, "num_codebooks", "num_channels")
    spread = [ids[..., None].repeat(1, 1, books), ids[..., None].repeat(1, 1, books + 1), ids.repeat(books, 1)]
    return [ids, *(spread if books else [])]


def _numbers(*shape: int) -> Callable[[nn.Module], list[Tensor]]:
    return lambda model: [torch.randn(1, *shape)]


def _series(*lengths: int) -> Callable[[nn.Module], list[Tensor]]:
    """Numbers over time: one series, or several where the configuration has channels."""

    def make(model: nn.Module) -> list[Tensor]:
        several, long = _number(model, "num_input_channels"), _number(model, "context_length", default=32)
        return ([torch.randn(1, long, several)] if several else []) + [torch.randn(1, n) for n in (*lengths, long)]

    return make


def _ones(*shapes: tuple[int, ...]) -> Callable[[nn.Module], list[Tensor]]:
    return lambda model: [torch.ones(shape, dtype=torch.long) for shape in shapes]


def _masks(model: nn.Module) -> list[Tensor]:
    """As many ones as there are tokens, or queries: a mask of ones is looked at in a trace alone."""
    queries = "query_embeds" in inspect.signature(model.forward).parameters
    return [torch.ones(1, length, dtype=torch.long) for length in ((QUERIES,) if queries else (LENGTH, QUERIES))]


def _grid(model: nn.Module) -> list[Tensor]:
    return [torch.tensor([[1, GRID, GRID]])]


MAKERS: dict[str, Callable[[nn.Module], list[Any]]] = {
    "input_ids": _codes,
    "qformer_input_ids": _ids,
    "decoder_input_ids": _codes,
    "attention_mask": _masks,
    "bbox": lambda model: [torch.arange(4 * LENGTH).view(1, LENGTH, 4) % 9 + torch.tensor([0, 0, 9, 9])],
    "query_embeds": lambda model: [torch.randn(1, QUERIES, model.config.hidden_size)],
    "encoder_hidden_states": _numbers(4, WIDTH),
    "inputs_embeds": lambda model: [torch.randn(1, LENGTH, model.config.hidden_size)],
    # images
    "pixel_values": _images,
    "prompt_pixel_values": _images,
    "prompt_masks": _images,
    "pixel_values_videos": _clip,
    "hidden_states": lambda model: [*_patches(model), torch.randn(1, 1, 6400), torch.randn(1, WIDTH, 4)],
    "grid_thw": _grid,
    "image_grid_thw": _grid,
    "merge_sizes": lambda model: [torch.tensor([1])],
    "target_sizes": lambda model: [torch.tensor([[GRID, GRID]])],
    "spatial_shapes": lambda model: [torch.tensor([[GRID, GRID]])],
    "pixel_position_ids": lambda model: [torch.cartesian_prod(torch.arange(GRID), torch.arange(GRID))[None]],
    "pixel_attention_mask": _ones((1, GRID * GRID)),
    "image_attention_mask": _ones((1, LENGTH, 1)),
    "image_embeds_position_mask": lambda model: [torch.arange(LENGTH)[None] < 4],
    "flattened_patches": lambda model: [torch.cat([torch.ones(1, 16, 2), torch.randn(1, 16, 768)], -1)],
    "visual_feats": _numbers(4, 8),
    "visual_pos": _numbers(4, 4),
    "task_inputs": lambda model: [*_ids(model), torch.arange(77)[None]],
    # sound
    "input_values": _wave,
    "input_features": _spectrogram,
    "input_features_mask": lambda model: [torch.ones(1, _frames(model), dtype=torch.long)],
    "audio_mel": _numbers(64, 16),
    "audio_mel_mask": lambda model: [torch.zeros(1, 64, dtype=torch.bool)],
    "latents": lambda model: [torch.randn(1, WIDTH, 4)],
    # series
    "past_values": _series(10),
    "past_time_features": _numbers(10, 1),
    "past_observed_mask": lambda model: [
        torch.ones(1, 10),
        torch.ones(1, _number(model, "context_length"), _number(model, "num_input_channels")),
    ],
    "future_values": _numbers(4),
    "future_time_features": _numbers(4, 1),
    "past_values_padding": lambda model: [
        torch.zeros(1, _number(model, "context_length", default=32), dtype=torch.long)
    ],
    "freq": lambda model: [torch.zeros(1, 1, dtype=torch.long)],
    # decisions
    "states": lambda model: [torch.randn(1, 4, model.config.state_dim)],
    "actions": lambda model: [torch.randn(1, 4, model.config.act_dim)],
    "rewards": _numbers(4, 1),
    "returns_to_go": _numbers(4, 1),
    "timesteps": lambda model: [torch.arange(4)[None]],
}
