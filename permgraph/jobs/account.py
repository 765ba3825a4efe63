"""What happened to every tensor of every model, for the record and as a few lines for people."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from permgraph.checkpoints.lazy_state import like, memory_of
from permgraph.checkpoints.model_card import public_name
from permgraph.models.heads import Heads
from permgraph.models.loaded import LoadedModel
from permgraph.models.saved_form import SavedForm
from permgraph.models.transformers_models import base_prefix
from permgraph.symmetry.specification.spec import PermutationSpec
from permgraph.wording import few

WORDS = {
    "moved": "moved",
    "merged": "merged without being moved",
    "kept": "kept from A",
    "taken": "taken from B",
    "unreached": "not reached by the forward pass",
    "left out": "left out",
}
NOTABLE = 0.01
"""The share of a model's numbers that the forward pass may leave unreached without a warning."""
SHOWN = 3
APART = "weights that were tied to it have a place of their own now, and nothing reads it"


@dataclass(frozen=True)
class Account:
    """What happened to every tensor.

    `tensors`: name -> one of `WORDS`, for every tensor of every model, in the output and in the files; `reasons`: name
    -> why, for the last two words; `sizes`: name -> number of elements, for the tensors in the output.
    """

    tensors: Mapping[str, str]
    reasons: Mapping[str, str]
    sizes: Mapping[str, int] = field(default_factory=dict)

    @property
    def fields(self) -> dict[str, dict[str, str]]:
        """The same for the record."""
        return {"tensors": dict(self.tensors), "reasons": dict(self.reasons)}

    def with_reasons(self, more: Mapping[str, str]) -> Account:
        """The same with more reasons."""
        return replace(self, reasons={**self.reasons, **more})

    def in_saved_form(self, forms: Sequence[SavedForm | None], written: LoadedModel) -> Account:
        """The same with the tensors of the files; those of the code that are in no file are left out.

        Of a tensor that is made of several, it is said what is said of the first.
        """
        tensors, reasons = dict(self.tensors), dict(self.reasons)
        for name, origins in (item for form in forms if form is not None for item in form.origins.items()):
            first = origins[0]
            tensors.setdefault(name, self.tensors[first])
            if first in self.reasons:
                reasons.setdefault(name, self.reasons[first])
        form = written.stored.saved
        if form is None:
            return replace(self, tensors=tensors, reasons=reasons)
        apart = {one for origins in form.origins.values() for one in origins} - form.origins.keys()
        kept = {name: word for name, word in tensors.items() if name not in apart}
        return Account(kept, {name: why for name, why in reasons.items() if name in kept}, form.sizes)

    def __str__(self) -> str:
        total = sum(self.sizes.values()) or 1
        parts = []
        for word, meaning in WORDS.items():
            names = [name for name, found in self.tensors.items() if found == word]
            written = [name for name in names if name in self.sizes]
            if word == "left out" and names:
                parts.append(f"{len(names)} {meaning}{self._why(names)}")
            elif written:
                share = sum(self.sizes[name] for name in written) / total
                parts.append(f"{len(written)} {meaning} ({share:.1%} of the numbers)")
        return f"tensors: {', '.join(parts)}"

    def _why(self, names: Sequence[str]) -> str:
        shown = [f"{name}: {self.reasons[name]}" for name in names[:SHOWN]]
        return f" ({'; '.join(shown)}{f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''})"

    @property
    def warning(self) -> str:
        """A sentence that names the largest unreached tensors if much of the models is not reached, else ""."""
        total = sum(self.sizes.values()) or 1
        names = [n for n, word in self.tensors.items() if word == "unreached" and self.reasons.get(n) != APART]
        share = sum(self.sizes.get(name, 0) for name in names) / total
        if share <= NOTABLE:
            return ""
        largest = sorted(names, key=lambda name: -self.sizes.get(name, 0))
        return (
            f"{share:.1%} of the numbers of the models are not reached by the forward pass, so they are not aligned: "
            f"{few(largest, SHOWN)}. A model of several inputs may be called without one of them"
        )


def account(
    models: Sequence[LoadedModel],
    parts: Sequence[LoadedModel],
    heads: Heads,
    spec: PermutationSpec,
    chosen: Collection[str],
    *,
    merged: bool = True,
) -> Account:
    """The account of `models`, whose common `parts` were matched by the groups `chosen` of `spec`.

    `merged`: whether the models were merged, under the first model's names, or only the second moved to the first.
    """
    written = 0 if merged else 1
    names, reasons, sizes = dict[str, str](), dict[str, str](), dict[str, int]()
    moving = {name for group in spec.groups if group.name in chosen for name, _ in group.axes}
    inner, stored = _part_names(models[written], parts[written]), like(models[written].weights)
    read = {memory_of(tensor) for name, tensor in stored.items() if inner.get(name, "") not in spec.unreached}
    for name, tensor in stored.items():
        sizes[name] = tensor.numel()
        part = inner.get(name)
        if part is None or name in heads.names:
            names[name] = "kept" if merged else "moved" if name in (heads.carried or ()) else "taken"
        elif part in moving:
            names[name] = "moved"
        elif part in spec.unreached:
            how = "averaged as they are" if merged else "left as it is"
            apart = memory_of(tensor) in read
            names[name], reasons[name] = "unreached", APART if apart else f"the forward pass does not read it; {how}"
        else:
            is_mean = tensor.is_floating_point() or tensor.is_complex()
            names[name] = ("merged" if is_mean else "kept") if merged else "taken"
    outer = {part: name for name, part in inner.items()}
    for model, part_of in zip(models, parts, strict=True):
        _add(model, _part_names(model, part_of), outer, heads, names, reasons)
    return Account(names, reasons, sizes).in_saved_form([model.stored.saved for model in models], models[written])


def _part_names(model: LoadedModel, part: LoadedModel) -> dict[str, str]:
    """Name in the model -> name in its common part; a tensor that shares memory with one of the part has its name."""
    state, own = like(model.weights), like(part.weights)
    prefix = base_prefix(model.model) + "." if len(own) < len(state) and base_prefix(model.model) else ""
    found = {name: name.removeprefix(prefix) for name in state if name.startswith(prefix)}
    found = {name: inner for name, inner in found.items() if inner in own}
    places = {memory_of(state[name]): inner for name, inner in found.items()}
    return {n: found.get(n) or places[memory_of(t)] for n, t in state.items() if n in found or memory_of(t) in places}


def _add(
    model: LoadedModel,
    inner: Mapping[str, str],
    outer: Mapping[str, str],
    heads: Heads,
    names: dict[str, str],
    reasons: dict[str, str],
) -> None:
    """Add the tensors of `model` that are not in the output, or have another name there."""
    where = public_name(model.reference)
    for name in like(model.weights):
        same = outer.get(inner.get(name, ""), name)
        word = names.get(same, "taken" if heads.second else "left out")
        why = reasons.get(same, f"of {where}: {heads.reason or 'it is not what is written'}")
        for alias in (name, model.stored.names.get(name, name)):
            if names.setdefault(alias, word) in ("left out", "unreached"):
                reasons.setdefault(alias, why)
    for name, why in model.stored.left_out.items():
        if names.setdefault(name, "left out") == "left out":
            reasons.setdefault(name, f"of {where}: {why}")
