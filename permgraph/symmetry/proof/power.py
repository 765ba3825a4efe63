"""What a proof can see: for every group and tensor, whether it would catch the group being wrong there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from permgraph.symmetry.elements.layout import Layout
from permgraph.symmetry.elements.parts import Matrix
from permgraph.symmetry.elements.permutations import Permutations
from permgraph.symmetry.proof.agreement import TOLERANCE, Scales, gaps, rounding_floors
from permgraph.symmetry.proof.low_rank import shortened
from permgraph.symmetry.proof.sensitivity import gradients
from permgraph.symmetry.proof.trials import Change, Trial

CLEAR = 10 * TOLERANCE
"""A first-order root mean square of errors at which the largest error is above the tolerance."""
APPLIED = 4  # this many wrong elements that no gradient shows are applied to the model


@dataclass(frozen=True)
class Wrong:
    """A group that is moved at its first place in one tensor, and stays everywhere else."""

    group: str
    tensor: str


@dataclass(frozen=True)
class Power:
    """The wrong elements that a proof catches, how many there are, and the groups of which it catches none."""

    caught: frozenset[Wrong] = frozenset()
    tried: int = 0
    untested: tuple[str, ...] = ()

    @property
    def share(self) -> float | None:
        """The share of wrong elements that are caught; None where there are none."""
        return len(self.caught) / self.tried if self.tried else None


@dataclass(frozen=True)
class PowerTest:
    """Wrong elements in a setting, judged at the scales of a proof; every group moves in some of `elements`.

    Whether a wrong element is caught is computed from the gradient of the outputs, each in units of its scale and with
    a random sign, along the change of its tensor. If this catches none of a group, some of them are applied to the
    model. If rounding is negligible in the proof, its floors are not computed.
    """

    trial: Trial
    elements: Sequence[Permutations]
    seed: int
    scales: Scales
    is_clear: bool = False

    def power(self, known: Collection[Wrong] = ()) -> Power:
        """The wrong elements that are caught here, or are `known` to be caught elsewhere."""
        caught = {*known, *(one for one, effect in self._effects().items() if effect > CLEAR)}
        if unseen := self._unseen(caught):
            caught.update(self._applied([one for one in self.wrong if one.group in unseen]))
        return Power(frozenset(caught), len(self.wrong), self._unseen(caught))

    def _unseen(self, caught: Collection[Wrong]) -> tuple[str, ...]:
        seen = {one.group for one in caught}
        return tuple(dict.fromkeys(one.group for one in self.wrong if one.group not in seen))

    @cached_property
    def wrong(self) -> list[Wrong]:
        """One for each group that some element moves, and each tensor that it acts on."""
        state = dict.fromkeys(self.trial.program.names.values())
        layouts = {name: self.trial.spec.layouts[name] for name in state if name in self.trial.spec.layouts}
        pairs = [Wrong(group, name) for name, layout in layouts.items() for group in layout.groups]
        order = {group.name: k for k, group in enumerate(self.trial.spec.groups)}
        return sorted((one for one in pairs if one.group in self._moving), key=lambda one: order[one.group])

    @cached_property
    def _moving(self) -> dict[str, Permutations]:
        """For each group an element that moves it."""
        found: dict[str, Permutations] = {}
        for element in self.elements:
            for name, share in element.moved.items():
                if share:
                    found.setdefault(name, element)
        return found

    def _effects(self) -> dict[Wrong, float]:
        """Wrong element -> root mean square of its errors, to first order; empty if there is no derivative."""
        effects: dict[Wrong, float] = defaultdict(float)
        by_tensor: dict[str, list[Wrong]] = {}
        for wrong in self.wrong:
            by_tensor.setdefault(wrong.tensor, []).append(wrong)

        def received(name: str, value: Tensor, gradient: Tensor) -> None:
            for wrong in by_tensor.get(name, ()):
                effects[wrong] += self._effect(wrong, value, gradient)

        try:
            gradients(self.trial, self.seed, self._weights, received)
        except RuntimeError:
            return {}
        return {wrong: abs(effect) for wrong, effect in effects.items()}

    def _effect(self, wrong: Wrong, value: Tensor, gradient: Tensor) -> float:
        """<the change of a tensor, its gradient>."""
        layout, part = self._first_move(wrong)
        if isinstance(part, Matrix) and value.dim() == 2:
            still = [dim for dim in (0, 1) if not any(cell.touches({dim}) for cell in layout.cells)]
            value, gradient = shortened(value, gradient, still[0]) if still else (value, gradient)
        return _product(layout.apply({wrong.group: part}, value), gradient) - _product(value, gradient)

    def _weights(self, outputs: list[Any]) -> list[Tensor | None]:
        return self.scales.weights(self._floors(outputs), self.seed)

    def _floors(self, outputs: list[Any]) -> Sequence[Tensor | None]:
        if self.is_clear:
            return [None] * len(outputs)
        return rounding_floors(outputs, [self.trial.outputs(self.seed, self.trial.jittered(0))])

    def _change(self, wrong: Wrong) -> Change:
        """The change of a tensor when a group moves only at its first place there."""
        layout, part = self._first_move(wrong)

        def change(name: str, tensor: Tensor) -> Tensor:
            return layout.apply({wrong.group: part}, tensor) if name == wrong.tensor else tensor

        return change

    def _first_move(self, wrong: Wrong) -> tuple[Layout, Any]:
        part = self._moving[wrong.group][wrong.group]
        return _first(self.trial.spec.layouts[wrong.tensor], wrong.group), part

    def _applied(self, wrong: Sequence[Wrong]) -> Iterator[Wrong]:
        """The elements that change an output, among the first `APPLIED` of these."""
        before = self.trial.outputs(self.seed)
        floors = self._floors(before)
        for candidate in wrong[:APPLIED]:
            after = self.trial.outputs(self.seed, self._change(candidate))
            if not max(self.scales.errors(gaps(before, after), floors), default=0.0) <= TOLERANCE:
                yield candidate


def _product(a: Tensor, b: Tensor) -> float:
    return torch.dot(a.flatten(), b.flatten()).item()


def _first(layout: Layout, group: str) -> Layout:
    """A layout on which only the first move of a group is left."""
    cells, done = [], False
    for cell in layout.cells:
        moves = () if done else tuple(move for move in cell.moves if move.group == group)[:1]
        done |= bool(moves)
        cells.append(type(cell)(cell.offsets, cell.leaves, moves))
    return Layout(layout.shape, tuple(cells))
