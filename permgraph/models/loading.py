"""From a reference on the command line to a model that can be traced, with its inputs and its adapter."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from permgraph.adapters import Adapter, adapter_for
from permgraph.checkpoints.json_files import read_json
from permgraph.checkpoints.reading import Checkpoint, open_checkpoint, require_finite
from permgraph.errors import AdapterError, CalibrationError, CheckpointError, SpecMismatchError
from permgraph.models.references import call_python, find_folder, run_python
from permgraph.models.timm_models import TimmAdapter, create_timm, is_timm_config, timm_fields, timm_from_folder
from permgraph.models.transformers_models import empty_model, has_head, load_weights
from permgraph.models.vocabulary import require_one_vocabulary
from permgraph.tracing.capture import moved

Axis = tuple[str, int]


@dataclass(frozen=True)
class LoadedModel:
    """A model in eval mode and float32, ready to be traced with `args` and `kwargs`.

    `config` is the transformers config as it should be written again (None for other models), `folder` the checkpoint
    on disk (None for a model made by code), `tie` and `outputs` what `derive` takes, `facts` what another model must
    share to be fed the same batches.
    """

    reference: str
    model: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    adapter: Adapter
    tie: dict[Axis, Axis] = field(default_factory=dict)
    folder: Path | None = None
    config: Any = None
    facts: dict[str, Any] = field(default_factory=dict)
    outputs: Literal["fixed", "free"] = "fixed"

    def on(self, device: torch.device) -> LoadedModel:
        """The same model with its weights and example inputs on `device`; the weights are moved, not copied."""
        if device.type == "cpu":
            return self
        args, kwargs = moved((self.args, self.kwargs), device)
        return replace(self, model=self.model.to(device), args=args, kwargs=kwargs)

    @property
    def architecture(self) -> str:
        """The class name of the model, as a written `config.json` gives it."""
        return type(self.model).__name__

    def calibration(
        self, data: Path | str, *, seed: int = 0, batch_size: int = 4, limit: int | None = None
    ) -> Iterable[dict[str, Tensor]]:
        """Batches of inputs from the folder `data`, see `Adapter.calibration`, or made by `python:module:function`.

        Raises CalibrationError.
        """
        if str(data).startswith("python:"):
            return _batches_of(str(data), limit)
        if not Path(data).is_dir():
            what = "is a file" if Path(data).is_file() else "no such folder"
            raise CalibrationError(f"{data}: {what}. Give a folder of audio, image or text files.")
        return self.adapter.calibration(
            Path(data), model=self.model, folder=self.folder, seed=seed, batch_size=batch_size, limit=limit
        )


def load(reference: str, *, weights: bool = True) -> LoadedModel:
    """The model that `reference` names: a local Hugging Face folder, a hub id, `timm:NAME`, `python:module:function`.

    `weights=False` builds it on the meta device, from its config alone: enough to derive symmetries.
    Raises CheckpointError (absent, unreadable, unsafe, weights that do not fit or are not finite) and AdapterError
    (a configuration that cannot be represented).
    """
    if reference.startswith("python:"):
        return _from_python(reference, weights=weights)
    if reference.startswith("timm:"):
        model = create_timm(reference.removeprefix("timm:"), pretrained=weights)
        return _timm_model(reference, model, None, timm_fields(model), weights=weights)
    folder = find_folder(reference, weights=weights)
    try:
        return _from_folder(reference, folder, weights=weights)
    except AdapterError as error:
        raise AdapterError(f"{reference}: {error}") from error


def require_alike(a: LoadedModel, b: LoadedModel) -> tuple[str, ...]:
    """Refuse two models that cannot be matched whatever their weights; sentences of warning about what merely differs.

    Raises SpecMismatchError naming the config field that changes the function, or the tokens that differ.
    """
    kinds = [type(model.config).__name__ for model in (a, b)]
    if kinds[0] != kinds[1]:
        raise SpecMismatchError(
            f"the two models are not of one architecture: {a.reference} has a {kinds[0]} and "
            f"{b.reference} a {kinds[1]}; merge models of one family"
        )
    a.adapter.require_alike(a.config, b.config)
    return tuple(filter(None, (*input_differences(a, b), require_one_vocabulary(a, b))))


def input_differences(a: LoadedModel, b: LoadedModel) -> tuple[str, ...]:
    """Sentences on what `a` and `b` expect differently of their inputs."""
    names = [name for name in a.facts if name in b.facts and a.facts[name] != b.facts[name]]
    return tuple(
        f"{name} is {a.facts[name]!r} in {a.reference} and {b.facts[name]!r} in {b.reference}; both will be given the "
        "inputs of the first"
        for name in names
    )


def _from_folder(reference: str, folder: Path, *, weights: bool) -> LoadedModel:
    fields = read_json(folder / "config.json")
    if is_timm_config(fields):
        model = timm_from_folder(folder, fields, weights=weights)
        return _timm_model(reference, model, folder, fields, weights=weights)
    if not isinstance(fields.get("model_type"), str):
        raise CheckpointError(f"{folder / 'config.json'}: has no `model_type`. Give a folder of a transformers model.")
    adapter = adapter_for(fields["model_type"])
    config = adapter.read_config(fields)
    traced = deepcopy(config)
    for name, value in adapter.switches.items():
        if hasattr(traced, name):
            setattr(traced, name, value)
    kinds = adapter.model_classes(traced)
    if weights:
        checkpoint = open_checkpoint(folder)
        state = _renamed(checkpoint, adapter)
        require_finite(state, folder)
        model = load_weights(kinds, traced, state, folder)
    else:
        model = empty_model(kinds[0], traced)
    args, kwargs = adapter.example_inputs(model)
    facts = adapter.input_facts(folder, config)
    outputs = "fixed" if has_head(model) else adapter.outputs
    return LoadedModel(reference, model, args, kwargs, adapter, adapter.tie(model), folder, config, facts, outputs)


def _renamed(checkpoint: Checkpoint, adapter: Adapter) -> dict[str, Tensor]:
    old: dict[str, str] = {}
    for name, new in adapter.rename(checkpoint).items():
        if new in old:
            raise CheckpointError(
                f"{checkpoint.folder}: {old[new]!r} and {name!r} both stand for {new!r}. Save it with one of them."
            )
        old[new] = name
    return {new: checkpoint[name] for new, name in old.items()}


def _from_python(reference: str, *, weights: bool) -> LoadedModel:
    model, args, kwargs = call_python(reference.removeprefix("python:"))
    model_type = str(getattr(getattr(model, "config", None), "model_type", ""))
    adapter = adapter_for(model_type) if model_type else Adapter()
    model = _prepared(model, reference, weights=weights)
    outputs = "fixed" if model_type and has_head(model) else adapter.outputs
    return LoadedModel(reference, model, args, kwargs, adapter, adapter.tie(model), outputs=outputs)


def _timm_model(reference: str, model: nn.Module, folder: Path | None, fields: Any, *, weights: bool) -> LoadedModel:
    adapter = TimmAdapter()
    args, kwargs = adapter.example_inputs(model)
    facts = adapter.input_facts(folder, fields)
    model = _prepared(model, reference, weights=weights)
    return LoadedModel(reference, model, args, kwargs, adapter, folder=folder, config=fields, facts=facts)


def _batches_of(reference: str, limit: int | None) -> Iterable[Any]:
    try:
        batches = run_python(reference.removeprefix("python:"))
    except CheckpointError as error:
        raise CalibrationError(str(error)) from error
    if isinstance(batches, str | bytes | Tensor) or not isinstance(batches, Iterable):
        raise CalibrationError(
            f"{reference}: returned one {type(batches).__name__}, not an iterable of batches. Return a list of "
            "tensors, of tuples of arguments, or of dicts of keywords."
        )
    return list(islice(batches, limit))


def _prepared(model: nn.Module, reference: str, *, weights: bool) -> nn.Module:
    if not weights:
        return model.to("meta").eval()
    require_finite(model.state_dict(), reference)
    return model.float().eval()
