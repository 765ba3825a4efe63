"""One tensor of the tensors that several models have at one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from permgraph.checkpoints.reading import is_mask, require_finite
from permgraph.comparing.masks import finite_part
from permgraph.errors import OptionError, PluginError, SpecMismatchError
from permgraph.merging.registry import MergeFunction, merge_method
from permgraph.merging.shares import Share
from permgraph.plugins import OWN, Registered
from permgraph.symmetry.derivation.folding import Foldable


@dataclass(frozen=True, eq=False)
class TensorMerge:
    """A merge method with its options, and the state dict of the model that all others were fine-tuned from."""

    method: Registered[MergeFunction]
    options: Mapping[str, Any] = field(default_factory=dict)
    base: Mapping[str, Tensor] | None = None

    @classmethod
    def of(
        cls,
        name: str,
        states: Sequence[Mapping[str, Tensor]],
        base: nn.Module | Mapping[str, Tensor] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> TensorMerge:
        """The method of this name for models with these state dicts.

        Raises OptionError for a name or an option that there is not, and for a method that takes fewer models;
        SpecMismatchError for a base of another architecture; NonFiniteError for one that is not finite.
        """
        method = merge_method.find(name)
        if method is None:
            raise OptionError(f"method is one of {', '.join(merge_method.names())}, not {name!r}")
        if method.most is not None and len(states) > method.most:
            raise OptionError(f'method "{name}" merges two models, {len(states)} are given: use "linear"')
        given = dict(options or {})
        method.require_options(given if base is None else given | {"base": base}, reserved=("name",))
        return cls(method, given, None if base is None else _state_of(base, states[0]))

    def folded(self, foldable: Foldable | None) -> TensorMerge:
        """The same for models with folded norms: those of the base are folded too."""
        if foldable is None or self.base is None:
            return self
        return replace(self, base=foldable.folded((self.base,))[0].state_dict)

    def __call__(self, name: str, tensors: Sequence[Tensor], shares: Sequence[Share]) -> Tensor:
        """The merged tensor in the dtype of the first; what are no numbers to merge, and infinities, are the first's.

        Computed in float32 or wider, on the first tensor's device; of complex numbers, the real and imaginary parts.
        """
        first = tensors[0]
        if first.is_complex():
            known = None if self.base is None else {name: _parts(self.base[name])}
            own = [share.unsqueeze(-1) if isinstance(share, Tensor) else share for share in shares]
            return torch.view_as_complex(replace(self, base=known)(name, [*map(_parts, tensors)], own))
        if not first.is_floating_point():
            return first.clone()
        if is_mask(first):
            merged = self._merged(name, [finite_part(tensor) for tensor in tensors], shares)
            return first.where(first.isinf(), merged)
        return self._merged(name, tensors, shares)

    def _merged(self, name: str, tensors: Sequence[Tensor], shares: Sequence[Share]) -> Tensor:
        first = tensors[0]
        dtype = torch.promote_types(first.dtype, torch.float32)
        foreign = self.method.distribution != OWN  # what it writes to must not be a user's weight
        wide = [tensor.detach().to(first.device, dtype, copy=foreign) for tensor in tensors]
        own = [share.to(first.device, dtype) if isinstance(share, Tensor) else share for share in shares]
        known = {"base": None if self.base is None else self.base[name].to(first.device, dtype), "name": name}
        filled = {key: value for key, value in known.items() if key in self.method.options}
        merged = self.method.function(wide, own, **filled, **self.options)
        if not isinstance(merged, Tensor) or merged.shape != first.shape:
            what = f"shape {tuple(merged.shape)}" if isinstance(merged, Tensor) else f"a {type(merged).__name__}"
            raise PluginError(
                f"{self.method.name!r} of {self.method.distribution} returned {what} for {name}, which has shape "
                f"{tuple(first.shape)}: repair or uninstall that package"
            )
        return merged.to(first.dtype)


def _parts(tensor: Tensor) -> Tensor:
    """[..., 2]: the real and imaginary parts of complex numbers."""
    return torch.view_as_real(tensor.detach().resolve_conj()).contiguous()


def _state_of(base: nn.Module | Mapping[str, Tensor], like: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    state = base.state_dict() if isinstance(base, nn.Module) else base
    for name, tensor in like.items():
        if name not in state or state[name].shape != tensor.shape:
            there = tuple(state[name].shape) if name in state else "absent"
            raise SpecMismatchError(
                f"the base is of another architecture: {name} is {there} there and {tuple(tensor.shape)} in the "
                "models; give the model that they were fine-tuned from"
            )
    require_finite({name: state[name] for name in like}, "the base")
    return state
