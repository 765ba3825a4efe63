"""A whole proof: at the given inputs and at others, and again at other parameters if a group has no visible effect."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

from permgraph.errors import VerificationError
from permgraph.symmetry.elements.permutations import Permutations
from permgraph.symmetry.proof.agreement import Scales
from permgraph.symmetry.proof.drawn_inputs import drawn_inputs, places_drawn
from permgraph.symmetry.proof.power import Power, PowerTest
from permgraph.symmetry.proof.proof import Proof, Setting
from permgraph.symmetry.proof.trials import NOISES, Trial, literals

DRAWS = 3  # the least: with two draws, one element in a million has a millionth of its spread by chance


@dataclass(frozen=True)
class Outcome:
    """The largest error of each output, the groups behind those above the tolerance, and the power of the proof.

    `drawn`: the places of the inputs that had other values in all trials but the first.
    """

    errors: list[float]
    failing: tuple[str, ...]
    trials: int
    drawn: tuple[str, ...]
    power: Power = field(default_factory=Power)


def prove(trial: Trial, element: Permutations | None, trials: int, seed: int) -> Outcome:
    """The outcome of this many trials of an element, or of random elements.

    The first trial is at the given inputs, the others, at least one, at new values. If the model cannot be computed
    with new values, all trials are at the given ones. Raises VerificationError if it cannot be computed with those.
    """
    plan = Plan(trial, element, trials, seed, values=True)
    try:
        return plan.outcome()
    except VerificationError:
        if not plan.drawn:
            raise
        return replace(plan, values=False).outcome()


def elsewhere(trial: Trial, seed: int) -> Trial:
    """The trial at other values of the inputs."""
    return replace(trial, inputs=drawn_inputs(trial.program, trial.inputs, seed))


@dataclass(frozen=True)
class Plan:
    """Which elements are tried at which inputs; with `values`, other values of the inputs are used too."""

    trial: Trial
    element: Permutations | None
    trials: int
    seed: int
    values: bool

    @cached_property
    def drawn(self) -> tuple[str, ...]:
        """The places of the inputs that can have other values."""
        other = elsewhere(self.trial, self.seed).inputs if self.values else self.trial.inputs
        return places_drawn(self.trial.program, self.trial.inputs, other)

    @cached_property
    def settings(self) -> list[Setting]:
        """The settings, the first at the given inputs; at least `DRAWS`, the last perhaps without elements."""
        spec, rest = self.trial.spec, max(self.trials - bool(self.drawn), 1)
        one = [self.element] if self.element is not None else spec.moving((self.seed + self.trials) % 2**63, most=1)
        elements = one * rest if self.element is not None else spec.moving(self.seed, rest)
        first = [Setting(self.trial, self.seed, one)] if self.drawn else []
        tried = [elements[k::rest] for k in range(rest)]
        tried += [[]] * (DRAWS - len(first) - rest)
        seeds = range(self.seed + len(first), self.seed + len(first) + len(tried))
        trials = [elsewhere(self.trial, seed) if self.drawn else self.trial for seed in seeds]
        return first + list(map(Setting, trials, seeds, tried))

    def outcome(self) -> Outcome:
        """The outcome; the proof is repeated at other parameters if a group has no visible effect."""
        errors = [0.0] * len(self.trial.spec.output_layouts)
        power, trials = Power(), sum(bool(setting.elements) for setting in self.settings)
        for noise in NOISES:
            settings = [replace(one, trial=replace(one.trial, noise=noise)) for one in self.settings]
            proof = Proof(settings, Scales(literals(self.trial.program)))
            try:
                trial_errors, failing = proof.outcome()
            except VerificationError:
                if noise == NOISES[0]:
                    raise
                break
            errors = list(map(max, errors, trial_errors))
            if failing:
                return Outcome(errors, failing, trials, self.drawn)
            power = self._power(proof, power)
            if not power.untested:
                break
        return Outcome(errors, (), trials, self.drawn, power)

    def _power(self, proof: Proof, power: Power) -> Power:
        """`power` with the wrong elements that are caught at other values of the inputs, then at the given ones."""
        elements = [element for setting in proof.settings for element in setting.elements]
        for setting in reversed(proof.settings[: 2 if self.drawn else 1]):
            test = PowerTest(setting.trial, elements, setting.seed, proof.scales, proof.is_clear)
            power = test.power(power.caught)
            if not power.untested:
                break
        return power
