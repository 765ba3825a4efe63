"""The interface to transformers: configs from plain JSON, classes by name, loading with every key accounted for.

transformers is imported inside the functions, because it takes seconds. No remote code is ever run.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from permgraph.errors import AdapterError, CheckpointError
from permgraph.models.names import why_left_out
from permgraph.requirements import unusable
from permgraph.wording import described, few


def known_config(fields: Mapping[str, Any]) -> Any:
    """The config object for the fields of a `config.json` whose `model_type` transformers knows.

    Raises AdapterError naming the model type, or the value that the config class refuses.
    """
    hf = _transformers()
    model_type = fields.get("model_type")
    if model_type not in hf.CONFIG_MAPPING:
        raise AdapterError(
            f"model type {model_type!r} is not known to transformers {hf.__version__}, and no adapter claims it. "
            "Install an adapter for it or a newer transformers; code in a checkpoint folder is never run."
        )
    return config_of(hf.CONFIG_MAPPING[model_type], fields)


def config_of(kind: Any, fields: Mapping[str, Any]) -> Any:
    """`kind.from_dict(fields)` without `auto_map`. Raises AdapterError with what the class says against a value."""
    try:
        with _quiet():
            return kind.from_dict({name: value for name, value in fields.items() if name != "auto_map"})
    except Exception as error:  # validation errors differ from version to version
        raise AdapterError(f"{kind.__name__} refuses config.json: {described(error)}. Correct that field.") from error


def candidate_classes(config: Any) -> list[type[nn.Module]]:
    """Model classes for `config`: the one it names in `architectures`, the bare model, the one for pre-training.

    The last because checkpoints exist that hold more than the class they name (BERT's has both pre-training heads).
    Raises AdapterError where transformers has none of them.
    """
    hf = _transformers()
    named = [getattr(hf, name, None) for name in config.architectures or ()]
    mappings = (hf.MODEL_MAPPING, hf.MODEL_FOR_PRETRAINING_MAPPING)
    mapped = [mapping[type(config)] for mapping in mappings if type(config) in mapping]
    flat = [kind for entry in mapped for kind in (entry if isinstance(entry, tuple | list) else (entry,))]
    classes = [
        kind for kind in dict.fromkeys([*named, *flat]) if isinstance(kind, type) and issubclass(kind, nn.Module)
    ]
    if not classes:
        raise AdapterError(
            f"config.json names no model class that this transformers has (architectures: {config.architectures}). "
            "Correct `architectures`, or install an adapter for this model."
        )
    return classes


def base_prefix(model: nn.Module) -> str:
    """The attribute under which a model with a head holds its base model; "" for a bare model."""
    prefix = getattr(model, "base_model_prefix", "")
    return prefix if prefix and isinstance(getattr(model, prefix, None), nn.Module) else ""


def has_head(model: nn.Module) -> bool:
    """Whether `model` is more than the bare model that transformers maps its config to."""
    hf, config = _transformers(), getattr(model, "config", None)
    if type(config) not in hf.MODEL_MAPPING:
        return bool(base_prefix(model))
    bare = hf.MODEL_MAPPING[type(config)]
    return type(model) not in (bare if isinstance(bare, tuple | list) else (bare,))


def empty_model(kind: type[nn.Module], config: Any) -> nn.Module:
    """`kind(config)` on the meta device: all shapes, no weights. Raises AdapterError where it cannot be built."""
    with _quiet():
        try:
            with torch.device("meta"):
                return kind(config).to("meta").eval()  # what a legacy constructor has put on the CPU too
        except Exception as error:
            raise AdapterError(
                f"{kind.__name__} cannot be built from config.json: {described(error)}. Correct the field."
            ) from error


def hollow_model(kind: type[nn.Module], config: Any) -> nn.Module:
    """`kind(config)` with its parameters on meta and its computed buffers: what a proof needs of a model.

    Raises AdapterError where it cannot be built.
    """
    here = threading.get_ident()

    def on_meta(module: nn.Module, name: str, parameter: nn.Parameter) -> nn.Parameter | None:
        mine = threading.get_ident() == here and not parameter.is_meta
        return nn.Parameter(parameter.to("meta"), parameter.requires_grad) if mine else None

    with _quiet():
        hook = register_module_parameter_registration_hook(on_meta)  # type: ignore[arg-type] # it may return one
        try:
            return kind(config).eval().requires_grad_(False)
        except Exception as error:
            raise AdapterError(
                f"{kind.__name__} cannot be built from config.json: {described(error)}. Correct the field."
            ) from error
        finally:
            hook.remove()


def load_weights(
    kinds: Sequence[type[nn.Module]], config: Any, state: Mapping[str, Tensor], where: object
) -> tuple[nn.Module, dict[str, str]]:
    """The first class of `kinds` that `state` fits, with these weights, in float32 and eval mode; and what is left out.

    A class that all of `state` fits goes before one for which something is left out (see `why_left_out`), except for
    buffers and averages. Raises CheckpointError with the names that are missing or left over and the shapes of both
    sides that differ, for the first class.
    """
    complaints: list[str] = []
    second: tuple[nn.Module, dict[str, str]] | None = None
    for kind in kinds:
        model, info = _load(kind, config, state, where)
        own = model.state_dict().keys()
        over = {name: why_left_out(name, own, kind.__name__) for name in sorted(info["unexpected_keys"])}
        if info["mismatched_keys"] or info["missing_keys"] or not all(over.values()):
            complaints.append(_complaint(kind.__name__, info, where))
            if info["mismatched_keys"] and kind is kinds[0]:  # a smaller class would lose these tensors
                break
        elif all(why != f"no part of {kind.__name__}" for why in over.values()):
            return model, over
        else:
            second = second or (model, over)
    if second is None:
        raise CheckpointError(complaints[0])
    return second


def _load(kind: Any, config: Any, state: Mapping[str, Tensor], where: object) -> tuple[nn.Module, Mapping[str, Any]]:
    with _quiet():
        try:
            model, info = kind.from_pretrained(
                None,
                config=config,
                state_dict=dict(state),
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                **_float32(),
            )
        except Exception as error:
            raise CheckpointError(
                f"{where}: {kind.__name__} cannot take these weights: {described(error)}. "
                "config.json and the weights must be of one model."
            ) from error
    return model.eval().requires_grad_(False), info


def _complaint(name: str, info: Mapping[str, Any], where: object) -> str:
    differ = [f"{key} (file {list(ours)}, {name} {list(theirs)})" for key, ours, theirs in info["mismatched_keys"]]
    parts = {
        "of another shape": differ,
        "missing from the files": list(info["missing_keys"]),
        f"not in {name}": list(info["unexpected_keys"]),
    }
    found = "; ".join(f"{what}: {few(sorted(names))}" for what, names in parts.items() if names)
    return f"{where}: the weights do not fit {name}: {found}. Use config.json and weights of one model."


def _float32() -> dict[str, torch.dtype]:
    major, minor = (int(part) for part in _transformers().__version__.split(".")[:2])
    return {"dtype" if (major, minor) >= (4, 56) else "torch_dtype": torch.float32}


def _transformers() -> Any:
    try:
        return import_module("transformers")
    except ImportError as error:
        raise AdapterError(f"this model needs {unusable('transformers', error, install='permgraph[hub]')}.") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the loading reports of transformers, which `CheckpointError` replaces; its settings are restored."""
    logging = _transformers().utils.logging
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
