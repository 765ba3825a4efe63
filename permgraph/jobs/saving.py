"""`save`: the weights of a merge or an alignment as a folder that loads, from Python."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from permgraph.arguments import typed
from permgraph.checkpoints.model_card import home_of, shared_licence
from permgraph.checkpoints.sharding import MAX_SHARD_BYTES, Storage, bytes_of, dtype_of
from permgraph.checkpoints.writing import write_merged
from permgraph.errors import SpecMismatchError
from permgraph.jobs.folder import storage_of, untied_config
from permgraph.jobs.record import certified, origin
from permgraph.jobs.session import Session
from permgraph.matching.alignment import Alignment
from permgraph.models.loaded import LoadedModel
from permgraph.models.saved_form import saved_form
from permgraph.symmetry.derivation.folding import came_apart
from permgraph.wording import shortened


@typed
def save(
    folder: Path | str,
    state_dict: Mapping[str, Tensor],
    like: LoadedModel | nn.Module,
    *,
    alignment: Alignment | None = None,
    dtype: str | None = None,
    max_shard_size: str | None = None,
    force: bool = False,
) -> Path:
    """load(save(folder, state_dict, like)) computes what `like` computes with the weights `state_dict`.

    The folder has the weights as safetensors, the config of `like`, its processor files where it was loaded from a
    folder, a model card and `permgraph.json`. It is written completely or not at all. Where `state_dict` unties what
    `like` ties, the config says so.

    Args:
        folder: where to write; absent or empty.
        state_dict: what `merge` returned, or `Alignment.state_dict`.
        like: a model with these tensors, as `load` returned it or a module. Dtype and shards are those of its files.
        alignment: what to record of the gains, the certificate and the permutations.
        dtype: "float32", "float16", "bfloat16" or "float64", for all tensors.
        max_shard_size: the largest file, as "2GB".
        force: whether to replace a folder that permgraph wrote and that holds nothing else.

    Raises:
        SpecMismatchError: `state_dict` has other names or shapes than `like`.
        CheckpointError: something is in the way, or the place cannot be written.
        OptionError: text that is not a dtype or a size.

    """
    module, loaded = (like.model, like) if isinstance(like, LoadedModel) else (like, None)
    _require_of(state_dict, module)
    storage = (
        _of_module(state_dict, dtype, max_shard_size) if loaded is None else storage_of(loaded, dtype, max_shard_size)
    )
    config = getattr(module, "config", None) if loaded is None else loaded.config
    return write_merged(
        folder,
        _saved(state_dict, module, loaded),
        report=_report(loaded, alignment),
        config=untied_config(config, came_apart(module, state_dict)) if _is_config(config) else None,
        architecture=type(module).__name__,
        home=home_of(type(module)),
        source=None if loaded is None else loaded.folder,
        base_models=[] if loaded is None else [loaded.reference],
        licence=shared_licence([None if loaded is None else loaded.folder]),
        force=force,
        inputs=[] if loaded is None or loaded.folder is None else [loaded.folder],
        storage=storage,
    )


def _is_config(config: Any) -> bool:
    return isinstance(config, Mapping) or hasattr(config, "to_json_string")


def _saved(state_dict: Mapping[str, Tensor], module: nn.Module, loaded: LoadedModel | None) -> Mapping[str, Tensor]:
    if loaded is not None:
        return loaded.stored.in_saved_form(state_dict)
    form = saved_form(module)
    return state_dict if form is None else form.of(state_dict)


def _of_module(state_dict: Mapping[str, Tensor], dtype: str | None, max_shard_size: str | None) -> Storage:
    """Each tensor in its own dtype; the config names that of the first."""
    most = MAX_SHARD_BYTES if max_shard_size is None else bytes_of(max_shard_size)
    own = {name: tensor.dtype for name, tensor in state_dict.items() if dtype is None}
    first = next((kind for kind in own.values() if kind.is_floating_point), None)
    return Storage(own, first if dtype is None else dtype_of(dtype), max_shard_bytes=most)


def _require_of(state_dict: Mapping[str, Tensor], module: nn.Module) -> None:
    own = module.state_dict()
    other = sorted(own.keys() ^ state_dict.keys())
    differ = [n for n, t in own.items() if n in state_dict and t.shape != state_dict[n].shape]
    if other or differ:
        raise SpecMismatchError(
            f"the weights are not those of {type(module).__name__}: {shortened(', '.join(other or differ))} "
            f"{'is in one of the two alone' if other else 'has another shape'}. Give `like` the model that they are of."
        )


def _report(loaded: LoadedModel | None, alignment: Alignment | None) -> dict[str, Any]:
    models = [] if loaded is None else [loaded]
    found = origin(Session(), models, None if alignment is None else alignment.spec, None)
    return found if alignment is None else found | certified(alignment)
