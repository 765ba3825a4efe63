"""The weights of a folder: each tensor is read from its file on access and converted to float32; none is kept."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from permgraph.adapters import Adapter
from permgraph.checkpoints.lazy_state import LazyState, memory_of
from permgraph.checkpoints.reading import Checkpoint
from permgraph.errors import CheckpointError
from permgraph.models.assembling import assembled
from permgraph.models.names import Fitted, fitted, why_left_out
from permgraph.models.saved_form import SavedForm, saved_form
from permgraph.models.stored_weights import StoredWeights, as_stored, in_form, require_numbers
from permgraph.models.transformers_models import hollow_model
from permgraph.wording import few


def read_on_demand(
    files: Checkpoint, kinds: Sequence[type[nn.Module]], config: Any, adapter: Adapter
) -> tuple[nn.Module, LazyState, StoredWeights]:
    """The first class of `kinds` that a checkpoint fits, without weights; its weights; and how they are stored.

    Raises CheckpointError for files of another format, which are read as a whole, and for weights that do not fit by
    name and shape: of what transformers converts while it loads, parts are put together and nothing is computed.
    """
    whole = sorted({info.file.name for info in files.info.values() if info.rows is None and info.shape})
    if whole:
        raise CheckpointError(
            f"{files.folder}: {few(whole)} can only be read as a whole. Save the checkpoint as safetensors, "
            "or leave out --max-memory."
        )
    problems = []
    for kind in kinds:
        model = hollow_model(kind, config)
        own = _on_meta(model.state_dict())
        base = f"{prefix}." if (prefix := getattr(model, "base_model_prefix", "")) else ""
        checkpoint, form, parts = _in_own_form(files, model, own, adapter, base)
        found = renamed(checkpoint, adapter, own, base)
        require_numbers(checkpoint, found.names, own, kind.__name__)
        names = of_model(own, found.names, base)
        over = {found.names[new]: why_left_out(new, own, kind.__name__) for new in _over(found.names, names)}
        stored = as_stored(own, checkpoint, names, checkpoint.left_out | dict(found.left_out) | over, found.prefix)
        where = {name: names.get(name) or _kept(name, own, names) for name in own}
        problem = _problem(checkpoint, own, where, [name for name, why in over.items() if not why])
        if not problem:
            stored = stored if form is None else in_form(stored, form, files, parts)
            return model, _state(checkpoint, own, {n: s for n, s in where.items() if s is not None}), stored
        problems.append(f"{checkpoint.folder}: the weights do not fit {kind.__name__} as they are stored: {problem}")
    raise CheckpointError(
        f"{problems[0]}. Save them again with save_pretrained(FOLDER, save_original_format=False), or leave out "
        "--max-memory."
    )


def _in_own_form(
    files: Checkpoint, model: nn.Module, own: Mapping[str, Tensor], adapter: Adapter, base: str
) -> tuple[Checkpoint, SavedForm | None, Mapping[str, str]]:
    """The files in the form of a model's tensors, the form that they have, and where that has its tensors.

    The form is None where files have the model's own, or one that is not made of parts of it.
    """
    form = saved_form(model)
    if form is None or form.parts is None:
        return files, None, {}
    names = renamed(files, adapter, form.parts, base).names
    if len(form.parts.keys() & names.keys()) <= len(own.keys() & renamed(files, adapter, own, base).names.keys()):
        return files, None, {}
    return assembled(files, form.parts, names, own), form, names


def _state(checkpoint: Checkpoint, own: Mapping[str, Tensor], where: Mapping[str, str]) -> LazyState:
    def rows(name: str, start: int, stop: int) -> Tensor:
        read = checkpoint.info[where[name]].rows
        assert read is not None
        return _wide(read(start, stop))

    floats = [info.dtype.itemsize for info in checkpoint.info.values() if info.dtype.is_floating_point]
    least = torch.float32 if max(floats, default=0) <= 2 else torch.float64
    return LazyState(own, lambda name: _wide(checkpoint[where[name]]), rows, least=least)


def _wide(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _on_meta(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same on meta, as float32 where it is floating point; one tensor for all names of one that is tied."""
    made: dict[Any, Tensor] = {}
    found = {}
    for name, tensor in state.items():
        dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
        key = (tensor.untyped_storage()._cdata, tensor.storage_offset(), tensor.shape, tensor.stride())
        found[name] = made.setdefault(key, torch.empty(tensor.shape, dtype=dtype, device="meta"))
    return found


def _kept(name: str, own: Mapping[str, Tensor], names: Mapping[str, str]) -> str | None:
    """Where the tensor is stored that is tied to this one."""
    same = (names[other] for other in own if other in names and memory_of(own[other]) == memory_of(own[name]))
    return next(same, None)


def _over(found: Mapping[str, str], used: Mapping[str, str]) -> list[str]:
    taken = set(used.values())
    return [new for new, stored in found.items() if stored not in taken]


def _problem(
    checkpoint: Checkpoint, own: Mapping[str, Tensor], where: Mapping[str, str | None], over: Sequence[str]
) -> str:
    differ = [
        f"{name} (file {list(checkpoint.info[stored].shape)}, model {list(own[name].shape)})"
        for name, stored in where.items()
        if stored is not None and checkpoint.info[stored].shape != tuple(own[name].shape)
    ]
    missing = [name for name, stored in where.items() if stored is None]
    parts = {"of another shape": differ, "missing from the files": missing, "not in the model": over}
    return "; ".join(f"{what}: {few(sorted(names))}" for what, names in parts.items() if names)


def renamed(checkpoint: Checkpoint, adapter: Adapter, wanted: Collection[str], base: str) -> Fitted:
    """The names in the files as the model's class has them: without prefixes, and as its adapter renames them."""
    try:
        bare = fitted(checkpoint, wanted, base)
    except CheckpointError as error:
        raise CheckpointError(f"{checkpoint.folder}: {error}") from error
    names: dict[str, str] = {}
    renamed = adapter.rename(bare.names)
    for name, new in renamed.items():
        if new in names:
            raise CheckpointError(
                f"{checkpoint.folder}: {names[new]!r} and {bare.names[name]!r} are both names of {new!r}. Save it with "
                "one of them."
            )
        names[new] = bare.names[name]
    dropped = {
        stored: "not loaded by the model's adapter" for name, stored in bare.names.items() if name not in renamed
    }
    return Fitted(names, dict(bare.left_out) | dropped, bare.prefix)


def of_model(own: Iterable[str], names: Mapping[str, str], base: str) -> dict[str, str]:
    """The model's name -> the name in the files, where only the prefix of the base model was added or removed."""
    found: dict[str, str] = {}
    for name in own:
        known = next((n for n in (name, f"{base}{name}", name.removeprefix(base)) if n in names), None)
        if known is not None:
            found[name] = names[known]
    return found
