"""Loads the model that a reference names, ready to be traced, with its inputs and its adapter."""

from __future__ import annotations

import os
from copy import deepcopy
from pathlib import Path
from typing import Any

from torch import nn

from permgraph.adapters import Adapter, Inputs, adapter_for
from permgraph.checkpoints.json_files import json_object
from permgraph.checkpoints.open_file import OpenFile
from permgraph.checkpoints.reading import Checkpoint, open_checkpoint, require_finite
from permgraph.checkpoints.weight_files import refuse_format
from permgraph.errors import AdapterError, CheckpointError, PermgraphError
from permgraph.models.config_fields import require_fields
from permgraph.models.diffusers_models import DiffusersAdapter, diffusers_from_folder, is_diffusers_config
from permgraph.models.filling import fill, shapes_for
from permgraph.models.loaded import LoadedModel
from permgraph.models.on_demand import of_model, read_on_demand, renamed
from permgraph.models.references import call_python, find_folder
from permgraph.models.saved_form import saved_form
from permgraph.models.stored_weights import (
    StoredWeights,
    as_given,
    as_stored,
    in_form,
    require_numbers,
    require_size,
)
from permgraph.models.timm_models import (
    TimmAdapter,
    create_timm,
    is_timm_config,
    sizes_of,
    timm_fields,
    timm_from_folder,
)
from permgraph.models.transformers_models import empty_model, has_head, load_weights
from permgraph.requirements import unusable
from permgraph.tracing.results import mark_head
from permgraph.wording import described


def load(
    reference: str | os.PathLike[str],
    *,
    weights: bool = True,
    model: str | None = None,
    on_demand: bool = False,
    pretrained: bool = True,
) -> LoadedModel:
    """The model that `reference` names: a local Hugging Face folder, a hub id, `timm:NAME`, `python:module:function`.

    With `model`, one of the last two forms, the weights in the file or folder `reference` are loaded into that model.
    `weights=False` builds it on the meta device, from its config alone: enough to derive symmetries. `on_demand` does
    so too, and reads each tensor on access, from a folder of safetensors. `pretrained=False` gives a `timm:NAME` random
    weights. Raises CheckpointError (absent, unreadable, unsafe, weights that do not fit or are not finite) and
    AdapterError (a configuration that cannot be represented).
    """
    for given in (reference, "" if model is None else model):
        if not isinstance(given, str | os.PathLike) or isinstance(os.fspath(given), bytes):
            raise CheckpointError(f"a model is named by a path or a text, not by {type(given).__name__}")
    reference = os.fspath(reference)
    made = os.fspath(model or reference)
    if on_demand and made.startswith(("python:", "timm:")):
        raise CheckpointError(f"{made}: is made whole in memory. Give a folder with config.json and safetensors.")
    if made.startswith("python:"):
        return _from_python(made, Path(reference) if model else None, weights=weights)
    if made.startswith("timm:"):
        fetched = pretrained and weights and not model
        return _from_timm(made, Path(reference) if model else None, weights=weights, pretrained=fetched)
    if model is not None:
        raise CheckpointError(f"{model}: makes no model. Give python:package.module:function or timm:NAME.")
    if Path(reference or "no name").is_file():
        refuse_format(Path(reference))
    folder = find_folder(reference, weights=weights)
    try:
        return _from_folder(reference, folder, weights=weights, on_demand=on_demand)
    except AdapterError as error:
        raise AdapterError(f"{reference}: {error}") from error
    except ImportError as error:  # the classes of transformers are imported when they are asked for
        needed = unusable("transformers", error, install="permgraph[hub]")
        raise CheckpointError(f"{reference}: this model needs {needed}.") from error


def _from_folder(reference: str, folder: Path, *, weights: bool, on_demand: bool) -> LoadedModel:
    file = OpenFile(folder / "config.json")
    fields = json_object(file.path, file.read(0, file.size))
    if is_timm_config(fields):
        if on_demand:
            raise CheckpointError("timm's models are made whole in memory. Leave out --max-memory.")
        return _timm_model(reference, timm_from_folder(folder, fields), folder, fields, weights=weights, files=(file,))
    if is_diffusers_config(fields):
        if on_demand:
            raise CheckpointError("models of diffusers are made whole in memory. Leave out --max-memory.")
        return _from_diffusers(reference, folder, fields, file, weights=weights)
    require_fields(file.path, fields)
    return _from_transformers(reference, folder, fields, file, weights=weights, on_demand=on_demand)


def _from_transformers(
    reference: str, folder: Path, fields: dict[str, Any], file: OpenFile, *, weights: bool, on_demand: bool
) -> LoadedModel:
    adapter = adapter_for(fields["model_type"])
    config = adapter.read_config(fields)
    traced = deepcopy(config)
    for name, value in adapter.switches.items():
        if hasattr(traced, name):
            setattr(traced, name, value)
    kinds = list(adapter.model_classes(traced))
    empty, lazy = empty_model(kinds[0], traced), None
    if on_demand:
        checkpoint = open_checkpoint(folder)
        require_size(checkpoint, empty.state_dict(keep_vars=True).values(), kinds[0].__name__)
        model, lazy, stored = read_on_demand(checkpoint, kinds, traced, adapter)
        files = (file, *checkpoint.opened)
    elif weights:
        checkpoint = open_checkpoint(folder)
        model, stored = _loaded(checkpoint, empty, kinds, traced, adapter)
        files = (file, *checkpoint.opened)
    else:
        model, stored, files = empty, as_given(empty), (file,)
    args, kwargs = _example_inputs(adapter, model)
    facts = adapter.input_facts(folder, config)
    outputs = "fixed" if has_head(model) else adapter.outputs
    if has_head(model):
        mark_head(model)
    return LoadedModel(
        reference, model, args, kwargs, adapter, adapter.tie(model), folder, config, facts, outputs, stored, files, lazy
    )


def _loaded(
    checkpoint: Checkpoint, empty: nn.Module, kinds: list[type[nn.Module]], config: Any, adapter: Adapter
) -> tuple[nn.Module, StoredWeights]:
    """A class of `kinds` with the weights of a checkpoint, and how they were stored; `empty` is the first of them."""
    what, base = type(empty).__name__, getattr(empty, "base_model_prefix", "")
    wanted = empty.state_dict(keep_vars=True)
    require_size(checkpoint, wanted.values(), what)
    found = renamed(checkpoint, adapter, wanted, f"{base}." if base else "")
    require_numbers(checkpoint, found.names, wanted, what)
    state = {new: checkpoint[name] for new, name in found.names.items()}
    require_finite(state, checkpoint.folder)
    model, over = load_weights(kinds, config, state, checkpoint.folder)
    names = of_model(model.state_dict(), found.names, f"{base}." if base else "")
    spare = of_model(over, found.names, f"{base}." if base else "")
    left_out = checkpoint.left_out | dict(found.left_out) | {spare.get(new, new): why for new, why in over.items()}
    stored = as_stored(model.state_dict(), checkpoint, names, left_out, found.prefix)
    saved = saved_form(model)
    return model, stored if saved is None else in_form(stored, saved, checkpoint, found.names)


def _example_inputs(adapter: Adapter, model: nn.Module) -> Inputs:
    try:
        return adapter.example_inputs(model)
    except PermgraphError:
        raise
    except Exception as error:  # sizes that no input can have
        raise AdapterError(
            f"config.json: no example inputs of {type(model).__name__} can be made: {described(error)}. Correct the "
            "sizes in it."
        ) from error


def _from_python(reference: str, place: Path | None, *, weights: bool) -> LoadedModel:
    model, args, kwargs = call_python(reference.removeprefix("python:"))
    model_type = str(getattr(getattr(model, "config", None), "model_type", ""))
    adapter = adapter_for(model_type) if model_type else Adapter()
    stored, files = _filled(model, reference, place, weights)
    model = _prepared(model, reference, weights=weights)
    outputs = "fixed" if model_type and has_head(model) else adapter.outputs
    if model_type and has_head(model):
        mark_head(model)
    return LoadedModel(
        str(place or reference), model, args, kwargs, adapter, adapter.tie(model), outputs=outputs, stored=stored,
        files=files,
    )  # fmt: skip


def _from_timm(reference: str, place: Path | None, *, weights: bool, pretrained: bool) -> LoadedModel:
    name = reference.removeprefix("timm:")
    model, sizes = create_timm(name, pretrained=pretrained), dict[str, Any]()
    if place is not None and weights:
        sizes = sizes_of(model, shapes_for(model, open_checkpoint(place)))
        model = create_timm(name, pretrained=False, **sizes) if sizes else model
    return _timm_model(str(place or reference), model, None, timm_fields(model, sizes), weights=weights, place=place)


def _timm_model(
    reference: str, model: nn.Module, folder: Path | None, fields: Any, *, weights: bool, place: Path | None = None,
    files: tuple[OpenFile, ...] = (),
) -> LoadedModel:  # fmt: skip
    adapter = TimmAdapter()
    args, kwargs = _example_inputs(adapter, model)
    facts = adapter.input_facts(folder, fields)
    stored, more = _filled(model, str(fields.get("architecture") or reference), place or folder, weights)
    model = _prepared(model, reference, weights=weights)
    return LoadedModel(
        reference, model, args, kwargs, adapter, folder=folder, config=fields, facts=facts, stored=stored,
        files=(*files, *more),
    )  # fmt: skip


def _from_diffusers(
    reference: str, folder: Path, fields: dict[str, Any], file: OpenFile, *, weights: bool
) -> LoadedModel:
    adapter, model = DiffusersAdapter(), diffusers_from_folder(folder, fields)
    args, kwargs = _example_inputs(adapter, model)
    stored, files = _filled(model, fields["_class_name"], folder, weights)
    model = _prepared(model, reference, weights=weights)
    return LoadedModel(
        reference, model, args, kwargs, adapter, folder=folder, config=fields, stored=stored, files=(file, *files)
    )


def _filled(
    model: nn.Module, what: str, place: Path | None, weights: bool
) -> tuple[StoredWeights, tuple[OpenFile, ...]]:
    if place is None or not weights:
        return as_given(model), ()
    checkpoint = open_checkpoint(place)
    return fill(model, checkpoint, what), checkpoint.opened


def _prepared(model: nn.Module, reference: str, *, weights: bool) -> nn.Module:
    if not weights:
        return model.to("meta").eval()
    require_finite(model.state_dict(), reference)
    return model.float().eval()
