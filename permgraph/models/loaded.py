"""A model that is ready to be traced, and its origin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from permgraph.adapters import Adapter
from permgraph.arguments import typed
from permgraph.checkpoints.lazy_state import LazyState
from permgraph.checkpoints.open_file import OpenFile
from permgraph.checkpoints.reading import state_sha256
from permgraph.errors import CalibrationError, CheckpointError
from permgraph.matching.vocabularies import Vocabulary
from permgraph.models.references import run_python
from permgraph.models.stored_weights import StoredWeights
from permgraph.models.vocabulary import vocabulary_of
from permgraph.tracing.inputs import moved
from permgraph.wording import described

Axis = tuple[str, int]
SAMPLES, IMAGES = 4, 16
"""A classifier has one output for an image, and one for each token of a text or each frame of a sound."""


@dataclass(frozen=True)
class LoadedModel:
    """A model in eval mode and float32, ready to be traced with `args` and `kwargs`.

    `config`: the transformers config to write again (None for other models). `folder`: the checkpoint on disk (None for
    a model made by code). `tie`, `outputs`: arguments of `derive`. `facts`: what another model must share to take the
    same batches. `stored`: how its weights were stored. `files`: the files that were read. `lazy`: its weights, read
    from the files on access; the model itself then has none. `given`: the model as loaded, if this one has been given
    the axes of another.
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
    stored: StoredWeights = field(default_factory=lambda: StoredWeights({}))
    files: tuple[OpenFile, ...] = ()
    lazy: LazyState | None = None
    given: LoadedModel | None = None

    def __repr__(self) -> str:
        count = sum(tensor.numel() for tensor in self.model.parameters())
        return f"LoadedModel({self.reference!r}: {self.architecture}, {count:,} parameters)"

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """The state dict: that of the model, or one that reads each tensor on access."""
        return self.model.state_dict() if self.lazy is None else self.lazy

    @typed
    def on(self, device: torch.device) -> LoadedModel:
        """The same model with its weights and example inputs on `device`; the weights are moved, not copied."""
        if device.type == "cpu" or self.lazy is not None:
            return self
        args, kwargs = moved((self.args, self.kwargs), device)
        return replace(self, model=self.model.to(device), args=args, kwargs=kwargs)

    @cached_property
    def hashes(self) -> dict[str, str]:
        """File name to SHA-256, of `config.json` and the weights; of weights that code made, one for all of them.

        Raises CheckpointError if a file was changed since it was opened.
        """
        if self.given is not None:
            return self.given.hashes
        if self.files:
            return {file.path.name: file.sha256() for file in self.files}
        return {"state_dict": state_sha256(self.model.state_dict())}

    @cached_property
    def vocabulary(self) -> Vocabulary | None:
        """The tokens that it looks up, by its own tokenizer; None where it reads no tokens."""
        return vocabulary_of(self)

    @property
    def architecture(self) -> str:
        """The class name of the model, as a written `config.json` gives it."""
        return type(self.model).__name__

    @typed
    def calibration(
        self, data: Path | str, *, seed: int = 0, batch_size: int | None = None, limit: int | None = None
    ) -> Iterable[dict[str, Tensor]]:
        """Batches of inputs from the folder `data`, see `Adapter.calibration`, or made by `python:module:function`.

        By default a batch has IMAGES images, or SAMPLES other inputs. Raises CalibrationError.
        """
        if batch_size is None:
            batch_size = IMAGES if all(map(_is_image, pytree.tree_leaves((self.args, self.kwargs)))) else SAMPLES
        if not isinstance(data, str | Path):
            raise CalibrationError(f"data is a folder or python:module:function, not {type(data).__name__}")
        if str(data).startswith("python:"):
            return _batches_of(str(data), limit)
        if not Path(data).is_dir():
            what = "is a file" if Path(data).is_file() else "no such folder"
            raise CalibrationError(f"{data}: {what}. Give a folder of audio, image or text files.")
        return self.adapter.calibration(
            Path(data), model=self.model, folder=self.folder, seed=seed, batch_size=batch_size, limit=limit
        )


def _is_image(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.dim() == 4


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
    read: list[Any] = []
    try:
        read.extend(islice(batches, limit))  # keeps what came before an error
    except Exception as error:  # whatever the user's code raises
        raise CalibrationError(
            f"{reference}: its batch {len(read) + 1} fails: {described(error)}. Repair the function, or read fewer "
            "batches with --limit."
        ) from error
    return read
