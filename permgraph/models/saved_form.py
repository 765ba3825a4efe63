"""The form in which transformers saves a model's tensors, where its files have other names and cuts than its code.

The code of a mixture of experts, for one, has one tensor for all experts, and its files one for each. What transformers
converts while it loads is converted back, as `save_pretrained` does, so that an output has the form of its inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

Reverted = Callable[[nn.Module, dict[str, Tensor]], dict[str, Tensor]]


@dataclass(frozen=True)
class SavedForm:
    """Another form of the tensors of `model`, which `reverted` computes.

    `origins`: name in that form -> the model's names that it is made of; `sizes`: its number of elements.
    """

    model: nn.Module
    reverted: Reverted
    origins: Mapping[str, Sequence[str]]
    sizes: Mapping[str, int]

    def of(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of `state` in this form, in the order of those that they are made of."""
        place = {name: number for number, name in enumerate(state)}
        found = self.reverted(self.model, dict(state))
        return {name: found[name] for name in sorted(found, key=lambda one: place[self.origins[one][0]])}


def saved_form(model: nn.Module) -> SavedForm | None:
    """The form that the files of `model` have, or would have.

    None where they have that of its state dict, or a tensor that is made of none of its tensors.
    """
    reverted = _reverting()
    if reverted is None or not hasattr(model, "save_pretrained") or not hasattr(model, "config"):
        return None
    state = {name: tensor.to("meta") for name, tensor in model.state_dict().items()}
    with _Origins({id(tensor): (name,) for name, tensor in state.items()}) as origins:
        saved = reverted(model, state)
        found = {name: origins.of(tensor) for name, tensor in saved.items()}
    if not all(found.values()) or all(found.get(name) == (name,) for name in state):
        return None
    return SavedForm(model, reverted, found, {name: tensor.numel() for name, tensor in saved.items()})


class _Origins(TorchFunctionMode):
    """Follows which tensors others are computed from."""

    def __init__(self, known: dict[int, tuple[str, ...]]) -> None:
        super().__init__()
        self.known = known
        self.alive: list[Any] = []  # an id is one tensor's only as long as that is kept

    def of(self, *tensors: Any) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for tensor in tensors for name in self.known.get(id(tensor), ())))

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        results = func(*args, **kwargs or {})
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
