"""Writes a checkpoint folder whole or not at all: weights in safetensors, config, processor files, report, card."""

import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, contiguous_format

from permgraph.checkpoints.folders import whole_folder
from permgraph.checkpoints.model_card import model_card
from permgraph.checkpoints.processor_files import copy_processor
from permgraph.checkpoints.reading import require_finite

MAX_SHARD_BYTES = 5_000_000_000


def save_checkpoint(
    folder: Path | str,
    state_dict: Mapping[str, Tensor],
    *,
    force: bool = False,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> Path:
    """`folder` with the weights alone, as safetensors, in shards where they pass `max_shard_bytes`; returns `folder`.

    Raises CheckpointError for a folder in the way (see `require_free`) and for weights that are not finite.
    """
    require_finite(state_dict, "the weights to be written")
    with whole_folder(folder, force=force) as partial:
        write_weights(partial, state_dict, max_shard_bytes=max_shard_bytes)
    return Path(folder)


def write_merged(
    folder: Path | str,
    state_dict: Mapping[str, Tensor],
    *,
    report: Mapping[str, Any],
    config: Any = None,
    architecture: str | None = None,
    source: Path | str | None = None,
    base_models: Sequence[str] = (),
    summary: str = "",
    licence: Mapping[str, str] | None = None,
    pages: Mapping[str, str] | None = None,
    force: bool = False,
    inputs: Iterable[Path | str] = (),
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> Path:
    """`folder` with a model that `AutoModel.from_pretrained` loads; returns `folder`.

    `config` is a transformers config (None for a model without one, timm's fields as they are), `architecture` its
    class name, `source` the folder of A whose processor and tokenizer files are copied, `report` the contents of
    `permgraph.json` (a number that is not finite becomes null), `base_models` hub ids or folders (only a folder's own
    name is written), `summary` Markdown for the model card, `licence` what it says of the licence, `pages` the text
    of more files by name, `inputs` what the output must not touch.
    Raises CheckpointError for a folder in the way, for weights that are not finite, or where writing fails.
    """
    require_finite(state_dict, "the weights to be written")
    with whole_folder(folder, force=force, inputs=inputs) as partial:
        write_weights(partial, state_dict, max_shard_bytes=max_shard_bytes)
        if source is not None:
            copy_processor(Path(source), partial)
        if config is not None:
            _write_json(partial / "config.json", _config_fields(config, architecture))
        _write_json(partial / "permgraph.json", _numbers_finite(report))
        library = "" if config is None else "timm" if isinstance(config, Mapping) else "transformers"
        title = Path(folder).resolve().name
        kind = architecture or ""
        card = model_card(title, base_models, library=library, architecture=kind, licence=licence, summary=summary)
        for name, text in {"README.md": card, **(pages or {})}.items():
            (partial / name).write_text(text, encoding="utf-8")
    return Path(folder)


def write_weights(folder: Path, state_dict: Mapping[str, Tensor], *, max_shard_bytes: int = MAX_SHARD_BYTES) -> None:
    """`model.safetensors`, or its shards and index, in a folder that exists; tensors that share memory stand once.

    The metadata maps the name left out to the name kept, as `safetensors.torch.save_model` does.
    """
    kept, aliases = _unshared(state_dict)
    shards = _shards(kept, max_shard_bytes)
    if len(shards) == 1:
        return _save(folder / "model.safetensors", shards[0], aliases)
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        _save(folder / name, shard, aliases)
        weight_map.update(dict.fromkeys(shard, name))
    total = sum(tensor.nbytes for tensor in kept.values())
    return _write_json(
        folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": weight_map}
    )


def _unshared(state_dict: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    first: dict[tuple[object, ...], str] = {}
    aliases: dict[str, str] = {}
    for name, tensor in state_dict.items():
        place = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.device)
        original = first.setdefault(place if tensor.numel() else (name,), name)
        if original != name:
            aliases[name] = original
    return {name: tensor for name, tensor in state_dict.items() if name not in aliases}, aliases


def _shards(tensors: Mapping[str, Tensor], most: int) -> list[dict[str, Tensor]]:
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > most:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    return shards


def _save(path: Path, tensors: Mapping[str, Tensor], aliases: Mapping[str, str]) -> None:
    # safetensors refuses tensors that share a storage, or that are only a view of theirs.
    storages = Counter(tensor.untyped_storage().data_ptr() for tensor in tensors.values())
    own = {}
    for name, tensor in tensors.items():
        alone = storages[tensor.untyped_storage().data_ptr()] == 1 and tensor.is_contiguous()
        own[name] = tensor.detach().cpu() if alone else tensor.detach().cpu().clone(memory_format=contiguous_format)
    metadata = {alias: kept for alias, kept in aliases.items() if kept in tensors}
    save_file(own, path, metadata={"format": "pt", **metadata})
    path.chmod(0o666 & ~_umask())  # safetensors makes files that only their owner can read


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _config_fields(config: Any, architecture: str | None) -> dict[str, Any]:
    if isinstance(config, Mapping):
        return dict(config)
    fields: dict[str, Any] = json.loads(config.to_json_string())
    for stale in ("auto_map", "_name_or_path", "torch_dtype"):
        fields.pop(stale, None)
    return fields | {"dtype": "float32"} | ({"architectures": [architecture]} if architecture else {})


def _numbers_finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _numbers_finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_numbers_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")
