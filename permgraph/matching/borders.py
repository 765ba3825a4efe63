"""Borders: axes at which two models differ; where B's entries are on A's axis, and which entries belong to one model.

A border is an axis that no group moves: the rows of a token table, the channels of an input, the rows of a table of
positions. For matching, B is written on A's axis, with zeros where it has no entry. In a merge, an entry that only one
model has is that model's; a moved B that is written alone keeps its own axis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from permgraph.checkpoints.lazy_state import LazyState, each_once, index_of, like, memory_of
from permgraph.errors import OptionError
from permgraph.symmetry.specification.spec import PermutationSpec

Axes = Mapping[str, int]
State = Mapping[str, Tensor]
Stage = tuple[PermutationSpec, Mapping[str, Any]]
Read = Callable[[str], Tensor]
CHANNELS, POSITIONS = "input channels", "positions"


@dataclass(frozen=True, eq=False)
class Border:
    """One axis of the output, and where its entries are in A and in B.

    Attributes:
        what: what the axis is, in words.
        rule: how its entries are merged, in words.
        axes: tensor of A -> dimension; `axes_b`: the same for B's names.
        a: for each entry of the output its place in A, -1 where A has none; `b`: the same in B.
        size_a: entries of A; `size_b`: of B.
        through: where B's entries become the output's by a matrix [output, B] instead of a selection, this matrix.

    """

    what: str
    rule: str
    axes: Axes
    axes_b: Axes
    a: Tensor = field(repr=False)
    b: Tensor = field(repr=False)
    size_a: int
    size_b: int
    through: Tensor | None = field(default=None, repr=False)

    @property
    def size(self) -> int:
        """How many entries the output has."""
        return len(self.a)

    def leaves(self, length: int, *, of_b: bool) -> bool:
        """Whether fitting leaves an axis of this length unchanged."""
        places = self.b if of_b else self.a
        return not (of_b and self.through is not None) and torch.equal(places, torch.arange(length, device="cpu"))

    def fitted(self, tensor: Tensor, dim: int, *, of_b: bool) -> Tensor:
        """A tensor of A or B on the axis of the output, zero where it has no entry."""
        if of_b and self.through is not None:
            product: Tensor = torch.tensordot(tensor, self.through.to(tensor), ([dim], [1]))
            return product.movedim(-1, dim)
        if self.leaves(tensor.shape[dim], of_b=of_b):
            return tensor
        places = (self.b if of_b else self.a).to(tensor.device)
        taken = tensor.index_select(dim, places.clamp(min=0))
        absent = (places < 0).view(-1, *[1] * (tensor.dim() - 1 - dim))
        return torch.where(absent, torch.zeros((), dtype=tensor.dtype, device=tensor.device), taken)


@dataclass(frozen=True, eq=False)
class Borders:
    """All borders of two models."""

    borders: tuple[Border, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.borders)

    def __str__(self) -> str:
        return "\n".join(f"{border.what}: {border.rule}" for border in self.borders)

    @property
    def reasons(self) -> dict[str, str]:
        """Tensor of the output -> how it was merged at its border."""
        rules_of: dict[str, list[str]] = {}
        for border in self.borders:
            for name in border.axes:
                rules_of.setdefault(name, []).append(f"{border.what}: {border.rule}")
        return {name: "; ".join(dict.fromkeys(rules)) for name, rules in rules_of.items()}

    @property
    def resizes(self) -> bool:
        """Whether B reads images of another size than A."""
        return any(border.what == POSITIONS and border.through is not None for border in self.borders)

    @property
    def changes_a(self) -> bool:
        """Whether A's tensors are fitted too, as with added tokens; then in the same way for all other models."""
        return any(not border.leaves(border.size_a, of_b=False) for border in self.borders)

    def sizes(self, *, of_b: bool) -> dict[int, int]:
        """The lengths that borders have in A or B -> those that they have in the output."""
        return {border.size_b if of_b else border.size_a: border.size for border in self.borders}

    def below(self, a: str, b: str) -> Borders:
        """The borders of tensors under the prefix `a` in A and `b` in B, by their names below it."""
        inner = [
            replace(border, axes=_below(border.axes, a), axes_b=_below(border.axes_b, b)) for border in self.borders
        ]
        return Borders(tuple(border for border in inner if border.axes))

    def fitted(self, state: State, *, of_b: bool = False) -> State:
        """The tensors whose axes differ from the output's, fitted; no others; computed on demand if `state` is."""
        known, steps = like(state), {name: self._steps(name, like(state), of_b) for name in self._names(of_b)}
        first: dict[Any, str] = {}  # what is tied stays tied
        for name in (name for name, here in steps.items() if here):
            first.setdefault(memory_of(known[name]), name)

        def make(name: str, given: State = state) -> Tensor:
            tensor = given[name]
            for border, dim in steps[name]:
                tensor = border.fitted(tensor, dim, of_b=of_b)
            return tensor

        made = {key: make(name, known) for key, name in first.items()}
        found = {name: made[memory_of(known[name])] for name, here in steps.items() if here}
        return LazyState(found, make, partial(_rows, state, steps, of_b)) if isinstance(state, LazyState) else found

    def _names(self, of_b: bool) -> list[str]:
        every = (name for border in self.borders for name in (border.axes_b if of_b else border.axes))
        return list(dict.fromkeys(every))

    def _steps(self, name: str, known: State, of_b: bool) -> list[tuple[Border, int]]:
        """The borders at which the axes of a tensor differ from the output's."""
        here = [(border, (border.axes_b if of_b else border.axes).get(name)) for border in self.borders]
        at = [(border, dim) for border, dim in here if dim is not None]
        return [(border, dim) for border, dim in at if not border.leaves(known[name].shape[dim], of_b=of_b)]

    def require_unmoved(self, spec: PermutationSpec) -> None:
        """Raise OptionError where a group of the fitted models moves a border."""
        for border in self.borders:
            moved = [g.name for g in spec.groups if any(border.axes.get(name) == dim for name, dim in g.axes)]
            if moved:
                raise OptionError(
                    f"{moved[0]} would move the {border.what}, which differ between the models: "
                    "take outputs='fixed', or models with the same"
                )

    def own(self, state: State, whole: State, stages: Sequence[Stage]) -> State:
        """B moved; tensors that have a border are on B's own axes, moved in pieces as long as the output's axis.

        `state`: B's weights. `whole`: the moved weights on the axes of the output.
        """
        names = set(self._names(of_b=True))
        if not names:
            return whole
        if isinstance(state, LazyState):
            return each_once(state, lambda n: self._own(n, state[n], stages) if n in names else whole[n])
        moved: dict[str, Tensor] = {}
        done: list[tuple[Any, Tensor]] = []
        for name in self._names(of_b=True):
            key = memory_of(state[name]), [spec.layouts.get(name) for spec, _ in stages]
            known = next((tensor for before, tensor in done if before == key), None)
            moved[name] = self._own(name, state[name], stages) if known is None else known
            done.append((key, moved[name]))
        return {**whole, **moved}

    def _own(self, name: str, tensor: Tensor, stages: Sequence[Stage]) -> Tensor:
        at = [(border, border.axes_b[name]) for border in self.borders if name in border.axes_b]
        for spec, element in stages:
            tensor = _in_pieces(tensor.detach(), at, partial(spec.apply_one, dict(element), name))
        return tensor


def _rows(
    state: State, steps: Mapping[str, Sequence[tuple[Border, int]]], of_b: bool, name: str, start: int, stop: int
) -> Tensor:
    """Rows of a fitted tensor; only these rows are read if its rows are all that differs."""
    if [dim for _, dim in steps[name]] != [0] or (of_b and steps[name][0][0].through is not None):
        tensor = state[name]
        for border, dim in steps[name]:
            tensor = border.fitted(tensor, dim, of_b=of_b)
        return tensor[start:stop]
    border = steps[name][0][0]
    places = (border.b if of_b else border.a)[start:stop]
    known = like(state)[name]
    found = torch.zeros(len(places), *known.shape[1:], dtype=known.dtype, device="cpu")
    found[places >= 0] = index_of(state, name, places[places >= 0])
    return found


def _below(axes: Axes, prefix: str) -> Axes:
    return {name.removeprefix(prefix): dim for name, dim in axes.items() if name.startswith(prefix)}


def _in_pieces(tensor: Tensor, borders: Sequence[tuple[Border, int]], move: Callable[[Tensor], Tensor]) -> Tensor:
    if not borders:
        return move(tensor)
    (border, dim), *rest = borders
    pieces = []
    for piece in torch.split(tensor, border.size, dim):
        gap = list(tensor.shape)
        gap[dim] = border.size - piece.shape[dim]
        whole = torch.cat([piece, piece.new_zeros(gap)], dim) if gap[dim] else piece
        pieces.append(_in_pieces(whole, rest, move).narrow(dim, 0, piece.shape[dim]))
    return torch.cat(pieces, dim)
