"""Writes a checkpoint folder whole or not at all: weights in safetensors, config, processor files, report, card."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from permgraph.checkpoints.folders import whole_folder
from permgraph.checkpoints.json_arrays import BESIDE, split
from permgraph.checkpoints.model_card import model_card, second_section
from permgraph.checkpoints.processor_files import copy_processor
from permgraph.checkpoints.sharding import Storage, write_tensors, write_weights
from permgraph.checkpoints.workshop import RECORD

SECOND_HEAD, SECOND_CONFIG = "second_head.safetensors", "second_config.json"
"""The second model's head, by its names, and its config, where a merge keeps both heads."""


@dataclass(frozen=True)
class SecondHead:
    """The head of the second model, moved into the order of the trunk, with its config and class."""

    tensors: Mapping[str, Tensor]
    config: Any = None
    architecture: str = ""

    def write(self, folder: Path, storage: Storage | None) -> None:
        """Into a folder that is being made."""
        write_tensors(folder / SECOND_HEAD, self.tensors, storage)
        if self.config is not None:
            dtype = storage.default if storage is not None else None
            fields = _config_fields(self.config, self.architecture, dtype or torch.float32)
            _write_json(folder / SECOND_CONFIG, fields)


def save_checkpoint(
    folder: Path | str,
    state_dict: Mapping[str, Tensor],
    *,
    force: bool = False,
    storage: Storage | None = None,
) -> Path:
    """`folder` with the weights alone, as safetensors, stored as `storage` says; returns `folder`.

    Raises CheckpointError for a folder in the way (see `require_free`) and for weights that are not finite.
    """
    with whole_folder(folder, force=force) as partial:
        write_weights(partial, state_dict, storage)
    return Path(folder)


def write_merged(
    folder: Path | str,
    state_dict: Mapping[str, Tensor],
    *,
    report: Mapping[str, Any],
    config: Any = None,
    architecture: str | None = None,
    home: str = "transformers",
    source: Path | str | None = None,
    base_models: Sequence[str] = (),
    summary: str = "",
    licence: Mapping[str, str] | None = None,
    pages: Mapping[str, str] | None = None,
    force: bool = False,
    inputs: Iterable[Path | str] = (),
    storage: Storage | None = None,
    second: SecondHead | None = None,
    finish: Callable[[Path], None] | None = None,
) -> Path:
    """`folder` with a model that `AutoModel.from_pretrained` loads; returns `folder`.

    Args:
        folder: absent or empty, or with `force` one that permgraph wrote.
        state_dict: the weights.
        config: a transformers config, timm's fields, or None for a model without one.
        architecture: its class name.
        home: the module of that class.
        source: the folder of A, whose processor and tokenizer files are copied.
        report: the contents of `permgraph.json`; a number that is not finite becomes null, and large arrays are
            written beside it (see `json_arrays`).
        base_models: hub ids or folders, for the model card; only the name of a folder is written.
        summary: Markdown for the model card.
        licence: the licence fields of the model card.
        pages: further files, name -> text.
        inputs: paths that the output must not overwrite.
        storage: the dtype and file of each tensor.
        second: another head for the same trunk.
        finish: called with the folder to change the copied processor files.
        force: whether to replace a folder that permgraph wrote.

    Raises:
        CheckpointError: a folder is in the way, a weight is not finite, or writing fails.

    """
    with whole_folder(folder, force=force, inputs=inputs) as partial:
        write_weights(partial, state_dict, storage)
        if second is not None:
            second.write(partial, storage)
        if source is not None:
            copy_processor(Path(source), partial)
        if finish is not None:
            finish(partial)
        if config is not None:
            dtype = storage.default if storage is not None else None
            _write_json(partial / "config.json", _config_fields(config, architecture, dtype or torch.float32))
        _write_record(partial, report)
        title, library, name = Path(folder).resolve().name, _library(config), architecture or ""
        card = model_card(
            title, base_models, library=library, architecture=name, home=home, licence=licence, summary=summary
        )
        card += "" if second is None else second_section(title, library)
        for name, text in {"README.md": card, **(pages or {})}.items():
            (partial / name).write_text(text, encoding="utf-8")
    return Path(folder)


def _library(config: Any) -> str:
    """The library that loads a model of this config."""
    if isinstance(config, Mapping):
        return "diffusers" if "_class_name" in config else "timm"
    return "" if config is None else "transformers"


def _config_fields(config: Any, architecture: str | None, dtype: torch.dtype) -> dict[str, Any]:
    if isinstance(config, Mapping):
        return dict(config)
    fields: dict[str, Any] = json.loads(config.to_json_string())
    for stale in ("auto_map", "_name_or_path", "torch_dtype"):
        fields.pop(stale, None)
    name = str(dtype).removeprefix("torch.")
    return _with_dtype(fields, name) | {"dtype": name} | ({"architectures": [architecture]} if architecture else {})


def _with_dtype(fields: dict[str, Any], name: str) -> dict[str, Any]:
    """The same with this dtype wherever a part of the config, as that of one tower of two, names one."""
    return {
        key: name
        if key in ("dtype", "torch_dtype") and isinstance(value, str)
        else _with_dtype(value, name)
        if isinstance(value, dict)
        else value
        for key, value in fields.items()
    }


def _write_record(folder: Path, report: Mapping[str, Any]) -> None:
    fields, arrays = split(_numbers_finite(report))
    if arrays:
        np.savez(folder / BESIDE, **arrays)  # type: ignore[arg-type]
    _write_json(folder / RECORD, fields)


def _numbers_finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _numbers_finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_numbers_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")
