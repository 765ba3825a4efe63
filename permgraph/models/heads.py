"""Checkpoints with heads: the part that all models have is matched and merged, the rest is the first model's.

The rule. The base models are always merged. A head (what is outside `base_model_prefix`: a classifier, a CTC layer, a
language model's output; timm's classifier) is merged too if every model has the same class of head, with the same
shapes and labels; otherwise the first model keeps its head, and those of the others are left out. A pooler that only
some base models have counts as a part of the head. `--heads` overrides the rule: "merge" refuses heads that differ,
"first" keeps the first model's head even if they agree, "both" keeps the second model's too.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from permgraph.checkpoints.lazy_state import each_once, like, memory_of
from permgraph.checkpoints.model_card import public_name
from permgraph.errors import SpecMismatchError
from permgraph.models.loaded import LoadedModel
from permgraph.models.timm_models import is_timm, without_classifier
from permgraph.models.transformers_models import base_prefix
from permgraph.models.vocabulary import tokens_in
from permgraph.symmetry.elements.permutations import Permutations
from permgraph.symmetry.specification.spec import PermutationSpec

POOLER = "pooler"


@dataclass(frozen=True)
class Heads:
    """Which modules outside the common part were merged, which the first model kept, and which were left out.

    `prefix`: of the common part in the first model's state dict. `reason`: why heads were not merged. `carried`: where
    nothing was merged, the tensors of the second model that moved, its head with its common part. `second`: that head
    was moved and is written in addition to the first model's. `names`: the tensors of the first model's head, if only
    shapes tell which they are.
    """

    prefix: str = ""
    merged: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    reason: str = ""
    carried: frozenset[str] | None = None
    second: bool = False
    names: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether the common part is all of every model."""
        return not self.reason

    def into(self, first: Mapping[str, Tensor], part: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The first model's state dict with the common part replaced; a head that was tied to it stays tied."""
        if self.whole:
            return part
        known = like(first)
        tied = {memory_of(known[f"{self.prefix}{name}"]): name for name in part}
        inner = {name: tied.get(memory_of(tensor)) for name, tensor in known.items()}

        def replaced(name: str) -> Tensor:
            here = inner[name]
            return first[name] if here is None else part[here]

        return each_once(first, replaced)

    def __str__(self) -> str:
        if self.whole and self.carried is None:
            return f"heads merged: {', '.join(self.merged)}" if self.merged else ""
        if self.whole:
            moved = self._moved(self.merged)
            told = {"moved with B": moved, "of B do not move": [name for name in self.merged if name not in moved]}
            return "; ".join(f"heads {how}: {', '.join(names)}" for how, names in told.items() if names)
        if self.carried is not None:
            modules = [name for names in self.left_out.values() for name in names]
            moves = not modules or self._moved(modules)
            return f"base models matched ({self.reason}); the head of B {'moved along' if moves else 'does not move'}"
        left = [f"{', '.join(modules)} of {reference}" for reference, modules in self.left_out.items() if modules]
        parts = [
            f"heads not merged ({self.reason})",
            f"kept from A: {', '.join(self.kept)}" if self.kept else "",
            f"{'moved, and written too' if self.second else 'left out'}: {'; '.join(left)}" if left else "",
        ]
        return "; ".join(part for part in parts if part)

    def _moved(self, modules: Iterable[str]) -> list[str]:
        """Those of these modules of which a tensor moved with the second model."""
        found = self.carried or frozenset()
        return [module for module in modules if any(name.startswith(f"{module}.") for name in found)]


def common_part(models: Sequence[LoadedModel], how: str | None = None) -> tuple[list[LoadedModel], Heads]:
    """The models cut down to what is matched and merged, and what becomes of their heads.

    All of them where their heads agree, or where nothing is shared (then matching names what differs); else the base
    models, whose outputs are free, since what they feed is the first model's head. `how` overrides the rule: merge,
    first or both. Raises SpecMismatchError for heads that differ and are to be merged.
    """
    models = list(models)
    reason = next(filter(None, (_difference(models[0], other) for other in models[1:])), "")
    bases = [_base(model.model) for model in models]
    if reason and how == "merge":
        raise SpecMismatchError(f"the heads cannot be merged: {reason}. Give --heads first or both.")
    if how in ("first", "both") and _outside(models[0].model):
        reason = reason or f"as --heads {how} asks"
    if not reason or len({type(base) for base in bases}) > 1:
        return models, Heads(merged=_modules(models[0].model, _outside(models[0].model)))
    if not all(_has_pooler(base) for base in bases):
        bases = [_without_pooler(base) for base in bases]
    parts = [_part(model, base) for model, base in zip(models, bases, strict=True)]
    outside = [_modules(m.model, _outside(m.model, base)) for m, base in zip(models, bases, strict=True)]
    left_out = {_name(model): names for model, names in zip(models[1:], outside[1:], strict=True)}
    return parts, Heads(_prefix(models[0].model), (), outside[0], left_out, reason, second=how == "both")


def heads_of_trunks(models: Sequence[LoadedModel], kept: Sequence[str], how: str) -> Heads:
    """The same where code makes the models, and shapes alone tell which tensors are heads; `kept` are the first's."""
    states = [model.model.state_dict() for model in models]
    theirs = [name for name in states[1] if name in kept or name not in states[0]]
    left_out = {_name(models[1]): _modules(models[1].model, theirs)}
    own = _modules(models[0].model, kept)
    return Heads("", (), own, left_out, "their shapes differ", None, how == "both", tuple(kept))


def head_names(model: LoadedModel, part: LoadedModel) -> list[str]:
    """Names of a model's head: what is outside its common part and is not tied to a tensor of it."""
    inner = set(map(memory_of, like(part.weights).values()))
    state = like(model.weights)
    return [name for name in _outside(model.model, part.model) if memory_of(state[name]) not in inner]


def with_part(model: LoadedModel, part: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The model's weights with those of its base model replaced."""
    prefix = _prefix(model.model)
    return dict(model.weights) | {f"{prefix}{name}": tensor for name, tensor in part.items()}


def on_the_whole(model: LoadedModel, spec: PermutationSpec, part: PermutationSpec, found: Permutations) -> Permutations:
    """The element of the whole model's group `spec` that acts on its base model as `found` of `part` does.

    A group of the whole corresponds to a group of the part if it has the same size and dependencies and acts on an axis
    of it; groups of the head alone do not move.
    """
    prefix = _prefix(model.model)
    tables = dict(spec.identity())
    for group in spec.groups:
        axes = set(group.axes)
        for other in part.groups:
            inside = any((f"{prefix}{name}", dim) in axes for name, dim in other.axes)
            if inside and other.table_shape == group.table_shape:
                tables[group.name] = found[other.name]
    return Permutations(tables)


def moved_by(spec: PermutationSpec, element: Permutations) -> frozenset[str]:
    """The tensors on which a group acts that this element moves."""
    shares = element.moved
    return frozenset(n for n, layout in spec.layouts.items() if any(shares.get(group) for group in layout.groups))


def labels_of(model: LoadedModel) -> Any:
    """What the outputs of the head mean: tokens (CTC), classes, or None where the head has no names of its own."""
    name = type(model.model).__name__
    if name.endswith("ForCTC"):
        return tokens_in(model.folder)
    if is_timm(model.model):
        return (model.config or {}).get("label_names")
    if "Classification" in name or "Detection" in name:
        return {int(key): value for key, value in (getattr(model.config, "id2label", None) or {}).items()}
    return None


def _difference(a: LoadedModel, b: LoadedModel) -> str:
    """Why the heads of two models cannot be merged; empty if they can."""
    kinds = [type(model.model) for model in (a, b)]
    if kinds[0] is not kinds[1]:
        return f"{_name(a)} is a {kinds[0].__name__}, {_name(b)} a {kinds[1].__name__}"
    shapes = [{name: tuple(m.model.state_dict()[name].shape) for name in _outside(m.model)} for m in (a, b)]
    for name in dict.fromkeys([*shapes[0], *shapes[1]]):
        if shapes[0].get(name) != shapes[1].get(name):
            return f"{name} is {shapes[0].get(name)} in {_name(a)} and {shapes[1].get(name)} in {_name(b)}"
    if _ties(a) != _ties(b):
        return f"only one of {_name(a)} and {_name(b)} ties its head to the embeddings"
    return f"the labels of {_name(a)} and {_name(b)} differ" if labels_of(a) != labels_of(b) else ""


def _ties(model: LoadedModel) -> bool:
    state = like(model.weights)
    return len({memory_of(tensor) for tensor in state.values()}) < len(state)


def _name(model: LoadedModel) -> str:
    return public_name(model.reference)


def _base(model: nn.Module) -> nn.Module:
    prefix = base_prefix(model)
    if prefix:
        return model.get_submodule(prefix)
    return without_classifier(model) if is_timm(model) else model


def _prefix(model: nn.Module) -> str:
    prefix = base_prefix(model)
    return f"{prefix}." if prefix else ""


def _outside(model: nn.Module, part: nn.Module | None = None) -> list[str]:
    """Names in the state dict that are outside the base model, or outside `part` of it."""
    prefix = _prefix(model)
    inside = {f"{prefix}{name}" for name in (part or _base(model)).state_dict()}
    return [name for name in model.state_dict() if name not in inside]


def _modules(model: nn.Module, names: Iterable[str]) -> tuple[str, ...]:
    """The modules, below the base model's prefix or next to it, that these parameters belong to."""
    prefix = _prefix(model)

    def module(name: str) -> str:
        inner = name.startswith(prefix) and prefix != ""
        return (prefix if inner else "") + name.removeprefix(prefix if inner else "").split(".")[0]

    return tuple(dict.fromkeys(module(name) for name in names))


def _has_pooler(base: nn.Module) -> bool:
    return getattr(base, POOLER, None) is not None


def _without_pooler(base: nn.Module) -> nn.Module:
    """The base model without its pooler; the user's module is not changed, and no weight copied."""
    if not _has_pooler(base):
        return base
    bare = copy.copy(base)
    bare._modules = {**base._modules, POOLER: None}
    return bare


def _part(model: LoadedModel, base: nn.Module) -> LoadedModel:
    args, kwargs = model.adapter.example_inputs(base)
    part = replace(model, model=base, args=args, kwargs=kwargs, tie=model.adapter.tie(base), outputs="free")
    if model.lazy is not None:
        return replace(part, lazy=model.lazy.below(_prefix(model.model), base.state_dict()))
    return part.on(next(base.parameters()).device)
