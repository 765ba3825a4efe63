"""Elements at random parameters, and how far each of them changes the outputs of a program."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

from permgraph.symmetry.elements.permutations import Permutations
from permgraph.symmetry.proof.agreement import INSIDE, TOLERANCE, Scales, gaps, larger, rounding_floors
from permgraph.symmetry.proof.trials import Trial

JITTERS = 4  # runs that measure rounding errors


@dataclass(frozen=True)
class Setting:
    """A program and inputs, the seed of its parameters, and the elements that are tried there; perhaps none."""

    trial: Trial
    seed: int
    elements: Sequence[Permutations] = ()

    def outputs(self) -> tuple[list[Any], list[list[Any]]]:
        """The outputs, and those under each element, moved back."""
        before, *after = self.trial.side_by_side(self.seed, [None, *map(self.trial.moved, self.elements)])
        return before, [self.trial.moved_back(e, found) for e, found in zip(self.elements, after, strict=True)]


@dataclass(frozen=True)
class Proof:
    """Elements of a group, each tried in one of the settings; all settings give the scales of the outputs."""

    settings: Sequence[Setting]
    scales: Scales

    def outcome(self) -> tuple[list[float], tuple[str, ...]]:
        """The largest error of each output, and the groups behind those above the tolerance."""
        return (self.errors, ()) if max(self.errors, default=0.0) <= TOLERANCE else self.judged()

    @cached_property
    def errors(self) -> list[float]:
        """The largest error of each output over all elements, whether or not rounding explains it."""
        worst: list[Tensor] = []
        for setting in self.settings:
            before, after = setting.outputs()
            self.scales.draw(before)
            for moved in after:
                found = gaps(before, moved)
                worst = list(map(larger, worst, found)) if worst else found
        return self.scales.errors(worst)

    @property
    def is_clear(self) -> bool:
        """Whether rounding errors are negligible relative to the scales, so that their floors need not be computed."""
        return INSIDE * max(self.errors, default=0.0) <= TOLERANCE

    def judged(self) -> tuple[list[float], tuple[str, ...]]:
        """The errors that rounding does not explain, and the groups behind those above the tolerance."""
        worst, failing = [0.0] * len(self.scales.low), dict[str, None]()
        for setting in (one for one in self.settings if one.elements):
            judge = Judge.at(setting, self.scales)
            for element in setting.elements:
                errors = judge.errors(element)
                worst = list(map(max, worst, errors))
                if not max(errors) <= TOLERANCE:
                    failing.update(dict.fromkeys(judge.failing(element, failing)))
        return worst, tuple(failing)


@dataclass(frozen=True)
class Judge:
    """The outputs in a setting, and how far rounding moves them."""

    setting: Setting
    scales: Scales
    before: list[Any]
    floors: list[Tensor]

    @classmethod
    def at(cls, setting: Setting, scales: Scales) -> Judge:
        """The judge for one setting."""
        trial = setting.trial
        before = trial.outputs(setting.seed)
        jittered = (trial.outputs(setting.seed, trial.jittered(number)) for number in range(JITTERS))
        return cls(setting, scales, before, rounding_floors(before, jittered))

    def errors(self, element: Permutations) -> list[float]:
        """The largest error of each output under an element."""
        trial = self.setting.trial
        after = trial.moved_back(element, trial.outputs(self.setting.seed, trial.moved(element)))
        return self.scales.errors(gaps(self.before, after), self.floors)

    def failing(self, element: Permutations, known: Collection[str]) -> list[str]:
        """The groups, other than those known, that change the function alone; all that are moved if none does."""
        still = self.setting.trial.spec.identity()
        moved = [name for name, share in element.moved.items() if share]
        alone = [
            name
            for name in moved
            if name not in known and not max(self.errors(Permutations({**still, name: element[name]}))) <= TOLERANCE
        ]
        return alone if alone or any(name in known for name in moved) else moved
