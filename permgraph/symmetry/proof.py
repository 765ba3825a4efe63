"""Elements at random parameters, and how far each of them changes the outputs of a program."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from permgraph.symmetry.agreement import TOLERANCE, Scales, gaps, rounding_floors
from permgraph.symmetry.permutations import Permutations
from permgraph.symmetry.trials import Trial

DRAWS = 3  # of parameters at least: with two, one element in a million has a millionth of its spread by chance
JITTERS = 4  # runs that show what rounding does


@dataclass(frozen=True)
class Proof:
    """Elements of a group, each tried at the parameters of one of the seeds in turn."""

    trial: Trial
    elements: Sequence[Permutations]
    seeds: range
    scales: Scales

    def outcome(self) -> tuple[list[float], tuple[str, ...]]:
        """The largest error of each output, and the groups behind those above the tolerance."""
        errors = self.errors()
        return (errors, ()) if max(errors, default=0.0) <= TOLERANCE else self.judged()

    def errors(self) -> list[float]:
        """The largest error of each output over all elements, whether or not rounding explains it."""
        worst: list[Tensor] = []
        for number in range(max(len(self.seeds), DRAWS)):
            seed = self.seeds.start + number
            before = self.trial.outputs(seed)
            self.scales.draw(before)
            for element in self._tried_at(number):
                found = gaps(
                    before, self.trial.moved_back(element, self.trial.outputs(seed, self.trial.moved(element)))
                )
                worst = list(map(torch.maximum, worst, found)) if worst else found
        return self.scales.errors(worst)

    def judged(self) -> tuple[list[float], tuple[str, ...]]:
        """The same errors less what rounding explains, and the groups behind those above the tolerance."""
        worst, failing = [0.0] * len(self.trial.spec.output_layouts), dict[str, None]()
        for number, seed in enumerate(self.seeds):
            judge = Judge.at(self.trial, self.scales, seed)
            for element in self._tried_at(number):
                errors = judge.errors(element)
                worst = list(map(max, worst, errors))
                if not max(errors) <= TOLERANCE:
                    failing.update(dict.fromkeys(judge.failing(element, failing)))
        return worst, tuple(failing)

    def _tried_at(self, number: int) -> Sequence[Permutations]:
        return self.elements[number :: len(self.seeds)] if number < len(self.seeds) else ()


@dataclass(frozen=True)
class Judge:
    """The outputs at the parameters of a seed, and how far rounding moves them."""

    trial: Trial
    scales: Scales
    seed: int
    before: list[Any]
    floors: list[Tensor]

    @classmethod
    def at(cls, trial: Trial, scales: Scales, seed: int) -> Judge:
        """The judge for one seed."""
        before = trial.outputs(seed)
        jittered = (trial.outputs(seed, trial.jittered(number)) for number in range(JITTERS))
        return cls(trial, scales, seed, before, rounding_floors(before, jittered))

    def errors(self, element: Permutations) -> list[float]:
        """The largest error of each output under an element."""
        after = self.trial.moved_back(element, self.trial.outputs(self.seed, self.trial.moved(element)))
        return self.scales.errors(gaps(self.before, after), self.floors)

    def failing(self, element: Permutations, known: Collection[str]) -> list[str]:
        """The groups, beside those known, that change the function alone; all that are moved if none does."""
        still = self.trial.spec.identity()
        moved = [name for name, share in element.moved.items() if share]
        alone = [
            name
            for name in moved
            if name not in known and not max(self.errors(Permutations({**still, name: element[name]}))) <= TOLERANCE
        ]
        return alone if alone or any(name in known for name in moved) else moved
