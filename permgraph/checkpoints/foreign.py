"""Recognises folders that are not one whole transformers model, and says what to give instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from permgraph.checkpoints.json_files import read_json
from permgraph.checkpoints.weight_files import OTHERS
from permgraph.errors import CheckpointError
from permgraph.wording import few

ADAPTER, PIPELINE = "adapter_config.json", "model_index.json"


def require_own_kind(folder: Path) -> None:
    """Raise CheckpointError for a PEFT adapter, a pipeline of diffusers, or weights of a format that is not read.

    A folder with the config of a model is accepted.
    """
    fields = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    if any(name in fields for name in ("model_type", "architecture", "_class_name")):
        return
    if (folder / ADAPTER).is_file():
        raise adapter_error(folder)
    if (folder / PIPELINE).is_file():
        raise _pipeline_error(folder, read_json(folder / PIPELINE))
    known = sorted(path for path in folder.glob("*") if path.suffix.lower() in OTHERS)
    if known:
        raise CheckpointError(f"{known[0]}: is {OTHERS[known[0].suffix.lower()]}.")


def adapter_error(folder: Path) -> CheckpointError:
    """What to do with a PEFT adapter."""
    base = read_json(folder / ADAPTER).get("base_model_name_or_path")
    whose = f" for {base}" if base else ""
    return CheckpointError(
        f"{folder}: is a PEFT adapter{whose}, not a model. Load it, merge it into its base model with "
        "`model.merge_and_unload().save_pretrained(folder)`, and give that folder; or align the base models and move "
        "the adapter with `permgraph align A B --carry FOLDER` or `Alignment.apply`."
    )


def _pipeline_error(folder: Path, parts: dict[str, Any]) -> CheckpointError:
    whole = {name: kind[1] for name, kind in parts.items() if isinstance(kind, list) and len(kind) == 2 and kind[0]}
    models = [f"{name} ({kind})" for name, kind in whole.items() if (folder / name / "config.json").is_file()]
    return CheckpointError(
        f"{folder}: is a pipeline of diffusers, {parts.get('_class_name')}, of several models. Give one of them, as "
        f"{folder / models[0].split()[0] if models else folder / 'unet'}; it has {few(models) or 'none here'}."
    )
