"""The form in which transformers saves a model's tensors, where its files have other names and cuts than its code.

The code of a mixture of experts, for one, has one tensor for all experts, and its files one for each. What transformers
converts while it loads is converted back, as `save_pretrained` does, so that an output has the form of its inputs.
Where a tensor of the files is a part of one of the code, both directions are known without computing any.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from permgraph.checkpoints.lazy_state import LazyState

Reverted = Callable[[nn.Module, dict[str, Tensor]], dict[str, Tensor]]


COPIES = (Tensor.contiguous, Tensor.clone, torch.clone)


@dataclass(frozen=True)
class Part:
    """Where in a contiguous tensor of the model, the one called `name`, a tensor of the files lies."""

    name: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int

    def of(self, whole: Tensor, before: int = 0) -> Tensor:
        """The part of a tensor that lacks so many numbers at its beginning, a view."""
        return whole.as_strided(self.shape, self.strides, self.offset - before)

    @property
    def end(self) -> int:
        """The number of numbers up to the end of its last one."""
        return self.offset + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True)) + 1


@dataclass(frozen=True)
class SavedForm:
    """Another form of the tensors of `model`, which `reverted` computes.

    `origins`: name in that form -> the model's names that it is made of; `sizes`: its number of elements; `parts`:
    name in that form -> where it lies, None where one of them is computed otherwise.
    """

    model: nn.Module
    reverted: Reverted
    origins: Mapping[str, Sequence[str]]
    sizes: Mapping[str, int]
    parts: Mapping[str, Part] | None

    def of(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The tensors of `state` in this form, in the order of those that they are made of."""
        place = {name: number for number, name in enumerate(state)}
        names = sorted(self.origins, key=lambda one: place[self.origins[one][0]])
        if isinstance(state, LazyState):
            return self._on_demand(state, names)
        found = self.reverted(self.model, dict(state))
        return {name: found[name] for name in names}

    def _on_demand(self, state: LazyState, names: Sequence[str]) -> LazyState:
        """The same where tensors are computed on access; those of one module are kept until another is asked for."""
        parts, known, kept = self.parts or {}, state.like, dict[str, Tensor]()
        whole = {name for name in names if parts[name].shape == known[parts[name].name].shape}

        def make(name: str) -> Tensor:
            part = parts[name]
            if name in whole:
                return state[part.name]
            if next(iter(kept), part.name).rpartition(".")[0] != part.name.rpartition(".")[0]:
                kept.clear()
            if part.name not in kept:
                kept[part.name] = state[part.name].contiguous()
            return part.of(kept[part.name]).clone()

        like = {
            name: known[parts[name].name]
            if name in whole
            else torch.empty(parts[name].shape, dtype=known[parts[name].name].dtype, device="meta")
            for name in names
        }
        return LazyState(
            like,
            make,
            lambda name, *rows: state.rows(parts[name].name, *rows) if name in whole else make(name)[slice(*rows)],
            lambda name: name in whole and state.alone(parts[name].name),
            state.least,
        )


def saved_form(model: nn.Module) -> SavedForm | None:
    """The form that the files of `model` have, or would have.

    None where they have that of its state dict, or a tensor that is made of none of its tensors.
    """
    reverted = _reverting()
    if reverted is None or not hasattr(model, "save_pretrained") or not hasattr(model, "config"):
        return None
    state = {name: torch.empty_like(tensor, device="meta").contiguous() for name, tensor in model.state_dict().items()}
    with _Origins({id(tensor): (name,) for name, tensor in state.items()}) as origins:
        saved = reverted(model, state)
        found = {name: origins.of(tensor) for name, tensor in saved.items()}
    if not all(found.values()) or all(found.get(name) == (name,) for name in state):
        return None
    sizes = {name: tensor.numel() for name, tensor in saved.items()}
    return SavedForm(model, reverted, found, sizes, _parts(state, saved))


def _parts(state: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> dict[str, Part] | None:
    """Where each saved tensor lies, if all of them are views of the state's and cover them without overlap."""
    owners = {tensor.untyped_storage()._cdata: name for name, tensor in state.items()}
    found, covered = {}, dict.fromkeys(state, 0)
    for name, tensor in saved.items():
        owner = owners.get(tensor.untyped_storage()._cdata)
        if owner is None:
            return None
        covered[owner] += tensor.numel()
        found[name] = Part(owner, tuple(tensor.shape), tensor.stride(), int(tensor.storage_offset()))
    return found if all(covered[name] == tensor.numel() for name, tensor in state.items()) else None


class _Origins(TorchFunctionMode):
    """Follows which tensors others are computed from, without copying any."""

    def __init__(self, known: dict[int, tuple[str, ...]]) -> None:
        super().__init__()
        self.known = known
        self.alive: list[Any] = []  # an id is one tensor's only as long as that is kept

    def of(self, *tensors: Any) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for tensor in tensors for name in self.known.get(id(tensor), ())))

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        results = args[0] if func in COPIES else func(*args, **kwargs or {})
        made = [leaf for leaf in tree_leaves(results) if isinstance(leaf, Tensor) and id(leaf) not in self.known]
        names = self.of(*tree_leaves((args, kwargs))) if made else ()
        self.alive += made
        self.known |= {id(tensor): names for tensor in made}
        return results


def _reverting() -> Reverted | None:
    """What converts back in transformers 5; earlier versions save the tensors that their code has."""
    try:
        return import_module("transformers.core_model_loading").revert_weight_conversion  # type: ignore[no-any-return]
    except (ImportError, AttributeError):
        return None
