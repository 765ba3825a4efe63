"""Small example inputs for a transformers model, guessed from its forward signature and its config."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from permgraph.data.image_inputs import image_token, with_image
from permgraph.errors import AdapterError

BATCH, LENGTH, SAMPLES, PIXELS = 2, 16, 16_000, 64


def guess_inputs(model: nn.Module, *, seed: int = 0) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """`((), kwargs)` for `model.forward`, on the CPU: token ids, waveforms, spectrograms or images.

    Raises AdapterError for a model whose main input is none of these.
    """
    generator = torch.Generator().manual_seed(seed)
    accepted = inspect.signature(model.forward).parameters
    main, *_ = names = needed_inputs(model)
    unknown = [name for name in names if name not in _MAKERS or name not in accepted]
    if unknown:
        raise AdapterError(
            f"{type(model).__name__} has the main input {main!r}, and no example of it can be guessed. "
            "Give the model as python:package.module:function, a function that returns (model, args, kwargs)."
        )
    inputs = {name: _MAKERS[name](model, generator) for name in names}
    token = image_token(model)
    if token is None or not {"input_ids", "pixel_values"} <= inputs.keys():
        return (), inputs
    return (), with_image(model, inputs, token)


def needed_inputs(model: nn.Module) -> tuple[str, ...]:
    """The names of the inputs that `model` requires, its main input first."""
    main = _main_input(model)
    return tuple(name for name in dict.fromkeys([main, *_MAKERS]) if name == main or _is_needed(name, main, model))


def _main_input(model: nn.Module) -> str:
    """The model's `main_input_name`, or its first input if it takes none of that name."""
    accepted = inspect.signature(model.forward).parameters
    named = str(getattr(model, "main_input_name", "input_ids"))
    return named if named in accepted else next((name for name in accepted if name in _MAKERS), named)


def vocabulary(model: nn.Module) -> int:
    """The number of token ids of the model."""
    size = getattr(_part(model.config, "text_config"), "vocab_size", None)
    return int(size or model.get_input_embeddings().num_embeddings)  # type: ignore[operator]


def longest_text(model: nn.Module, wanted: int) -> int:
    """`wanted` tokens, or fewer where the model has fewer positions."""
    config = _part(model.config, "text_config")
    most = getattr(config, "max_position_embeddings", None) or wanted
    # RoBERTa's positions start behind the padding id.
    return int(min(wanted, most - 2)) if most < wanted + 2 else wanted


def _is_needed(name: str, main: str, model: nn.Module) -> bool:
    config: Any = model.config
    parameter = inspect.signature(model.forward).parameters.get(name)
    if parameter is None or parameter.default is inspect.Parameter.empty:
        return parameter is not None
    two_towers = hasattr(config, "text_config") and hasattr(config, "vision_config") and main == "input_ids"
    if name == "pixel_values":
        return two_towers
    decodes = bool(getattr(config, "is_encoder_decoder", False))
    return name == "decoder_input_ids" and decodes


def _token_ids(model: nn.Module, generator: torch.Generator) -> Tensor:
    config = _part(model.config, "text_config")
    size, length = vocabulary(model), longest_text(model, LENGTH)
    ids = torch.randint(0, size, (BATCH, length), generator=generator, device="cpu")
    padding = getattr(config, "pad_token_id", None)
    return ids if padding is None else torch.where(ids == padding, (padding + 1) % size, ids)


def _waveform(model: nn.Module, generator: torch.Generator) -> Tensor:
    config: Any = model.config
    if hasattr(config, "num_mel_bins") and hasattr(config, "max_length") and not hasattr(config, "conv_stride"):
        return torch.randn(BATCH, config.max_length, config.num_mel_bins, generator=generator, device="cpu")
    return torch.randn(BATCH, SAMPLES, generator=generator, device="cpu")


def _spectrogram(model: nn.Module, generator: torch.Generator) -> Tensor:
    config: Any = model.config
    if hasattr(config, "max_source_positions"):  # Whisper: the length is fixed, two frames a position
        return torch.randn(
            BATCH,
            config.num_mel_bins,
            2 * config.max_source_positions,
            generator=generator,
            device="cpu",
        )
    width: int = getattr(config, "feature_projection_input_dim", 0) or getattr(config, "num_mel_bins", 80)
    return torch.randn(BATCH, LENGTH * 4, width, generator=generator, device="cpu")


def _image(model: nn.Module, generator: torch.Generator) -> Tensor:
    config = _part(model.config, "vision_config")
    size = getattr(config, "image_size", None) or PIXELS
    height, width = (size, size) if isinstance(size, int) else tuple(size)[-2:]
    return torch.randn(BATCH, getattr(config, "num_channels", 3), height, width, generator=generator, device="cpu")


def _part(config: Any, name: str) -> Any:
    return getattr(config, name, None) or config


_MAKERS: dict[str, Callable[[nn.Module, torch.Generator], Tensor]] = {
    "input_ids": _token_ids,
    "decoder_input_ids": _token_ids,
    "pixel_values": _image,
    "input_values": _waveform,
    "input_features": _spectrogram,
}
