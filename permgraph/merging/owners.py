"""Which models have an entry of a border, and how entries are merged that some models lack."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce

import torch
from torch import Tensor, nn

from permgraph.checkpoints.lazy_state import LazyState, each_once
from permgraph.matching.borders import Border, Borders
from permgraph.matching.fitting import fit
from permgraph.merging.shares import Share
from permgraph.tracing.loaded import Loaded, inputs_of, state_of


@dataclass(frozen=True)
class Owners:
    """The borders of A with each other model, and with the model that all were fine-tuned from.

    An entry that a model or the base lacks is the mean of the models that have it, weighted by their shares.
    """

    others: Sequence[Borders] = ()
    base: Borders = field(default_factory=Borders)

    def __bool__(self) -> bool:
        return any(self.others) or bool(self.base)

    def acts_on(self, name: str) -> bool:
        """Whether a tensor has a border."""
        return bool(self._borders(name))

    def completed(self, name: str, merged: Tensor, tensors: Sequence[Tensor], shares: Sequence[Share]) -> Tensor:
        """A merged tensor by the rule for entries that some models lack; `tensors` are fitted and moved to A."""
        for dim, size in dict.fromkeys((border.axes[name], border.size) for border in self._borders(name)):
            rows = [self._has(number, name, dim, size) for number in range(len(tensors))]
            has = torch.stack(rows).to(merged.device)
            absent = ~(has.all(0) & _has(self.base, name, dim, size).to(merged.device))
            if bool(absent.any()):
                shape = [-1, *[1] * (merged.dim() - 1 - dim)]
                merged = torch.where(absent.view(shape), _mean(tensors, shares, has, shape, merged), merged)
        return merged

    def into(self, merged: Mapping[str, Tensor], completed: Callable[[str], Tensor]) -> Mapping[str, Tensor]:
        """A merged state dict with `completed(name)` for each tensor that has a border; tied tensors stay tied."""
        if not self:
            return merged
        if isinstance(merged, LazyState):
            return merged.with_(each_once(merged.only(filter(self.acts_on, merged)), completed))
        made: dict[int, Tensor] = {}
        result = dict(merged)
        for name in filter(self.acts_on, merged):
            key = id(merged[name])
            result[name] = made[key] if key in made else made.setdefault(key, completed(name))
        return result

    def _borders(self, name: str) -> list[Border]:
        return [border for one in (*self.others, self.base) for border in one.borders if name in border.axes]

    def _has(self, number: int, name: str, dim: int, size: int) -> Tensor:
        if number:
            return _has(self.others[number - 1], name, dim, size)
        here = [border for border in self._borders(name) if border.axes[name] == dim]
        return here[0].a >= 0


def with_base(
    owners: Owners, models: Sequence[nn.Module | Loaded], base: nn.Module | Loaded | Mapping[str, Tensor] | None
) -> tuple[Owners, nn.Module | Mapping[str, Tensor] | None]:
    """The owners with the borders of a loaded base, and its weights on the axes of the output."""
    if base is None or isinstance(base, nn.Module | Mapping):
        return owners, base
    found = fit(models, lambda: inputs_of(models[0]), base)
    return Owners(owners.others, found.borders[-1]), state_of(found.models[-1])


def _has(borders: Borders, name: str, dim: int, size: int) -> Tensor:
    """For each entry of an axis, whether the other model of these borders has it."""
    found = torch.ones(size, dtype=torch.bool, device="cpu")
    for border in borders.borders:
        if border.axes.get(name) == dim:
            found &= border.b >= 0
    return found


def _mean(tensors: Sequence[Tensor], shares: Sequence[Share], has: Tensor, shape: list[int], like: Tensor) -> Tensor:
    """Σ share · tensor / Σ share over the models that have an entry; equal shares where they sum to 0."""
    if not like.is_floating_point():
        first = has.int().argmax(0).view(shape)
        return torch.stack([torch.where(first == k, t.to(like), 0) for k, t in enumerate(tensors)]).sum(0).to(like)
    wide = torch.promote_types(like.dtype, torch.float32)
    own = [row.view(shape) for row in has]
    given = [torch.as_tensor(share, dtype=wide, device=like.device) for share in shares]
    weights = [share * row for share, row in zip(given, own, strict=True)]
    alike = (_sum(weights) <= 0).to(wide)
    weights = [weight + alike * row for weight, row in zip(weights, own, strict=True)]
    total = _sum(weights)
    parts = [weight / total * t.to(like.device, wide) for weight, t in zip(weights, tensors, strict=True)]
    return _sum(parts).to(like.dtype)


def _sum(tensors: Sequence[Tensor]) -> Tensor:
    total: Tensor = reduce(torch.add, tensors)
    return total
