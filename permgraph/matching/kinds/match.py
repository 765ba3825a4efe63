"""Matching in all kinds: models are balanced, matched by activations or weights, and moved to the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from permgraph.algebra.matrices import Numbers
from permgraph.checkpoints.lazy_state import LazyState, each_once
from permgraph.comparing.frames import Point
from permgraph.matching.correlation import WITHOUT, Within, moments_of
from permgraph.matching.dead_units import dead_units, rearranged
from permgraph.matching.gains import MIX, WEIGHTS, Gain
from permgraph.matching.kinds.activations import Activations, activations, crosses, telling
from permgraph.matching.kinds.ascent import ROUNDS, ROUNDS_IN_TURN, Ascent
from permgraph.matching.kinds.balance import balance
from permgraph.matching.kinds.family import solve
from permgraph.matching.kinds.finish import finish
from permgraph.matching.kinds.gains import Compared, activation_gains, compared, weight_gains
from permgraph.matching.kinds.places import further_signs
from permgraph.matching.kinds.seen_signs import sign_as_seen
from permgraph.matching.kinds.told_signs import ToldSigns
from permgraph.matching.kinds.unseen import complete, unseen
from permgraph.matching.match import Match, Task
from permgraph.matching.portions import portions
from permgraph.symmetry.elements.parts import with_index
from permgraph.symmetry.elements.permutations import Permutations
from permgraph.symmetry.specification.spec import PermutationSpec


@dataclass(frozen=True)
class Observed:
    """Where activations are compared, with how much in memory, and their share of the objective: 1 is all of it."""

    points: Sequence[Point]
    within: Within = WITHOUT
    mix: float = 1.0


def match_kinds(task: Task, observed: Observed | None = None, *, rounds: int | None = None) -> list[Match]:
    """P_m = c_A⁻¹ g c_m: c brings a model to its smallest norm, g matches it there to those already placed.

    Without `observed`, g is matched by weights, in at most `rounds`: fewer where each is a pass over files. With it,
    permutations, signs and rotations are matched by the activations of the first model and each other one, but for
    units inside which maps act, groups that occur in no activation, and the remaining signs: these by weights. With a
    mix below 1, weights and activations are matched at once: (1 - mix) F / F_max + mix C / C_max is maximised, F the
    inner product of weights, C that of activations.
    """
    if rounds is None:
        rounds = ROUNDS_IN_TURN if any(isinstance(state, LazyState) for state in task.states) else ROUNDS
    spec, names = task.spec, [group.name for group in task.groups]
    balanced = [balance(spec, state, names) for state in task.states]
    placed: list[Mapping[str, Tensor]] = [balanced[0][1]]
    found = [task.unmoved()]
    for number in range(1, len(task.models)):
        turn = Turn(task, number, _mean(placed), balanced[0][1], *balanced[number], rounds)
        ascent, gains = (turn.by_weights(), {}) if observed is None else turn.by_activations(observed)
        finish(ascent)
        placed.append(ascent.moved)
        total = spec.compose(spec.invert(balanced[0][0]), spec.compose(ascent.element, turn.begun))
        found.append(Match({name: total[name] for name in names}, _with_unseen(gains, ascent, task, observed)))
    return found


@dataclass
class Known:
    """What activations tell of one model.

    Attributes:
        parts: group -> its part, without the signs of `unsigned` groups.
        seen: the similarity of units that are matched, without signs.
        untold: the same with the further signs that weights tell.
        unsigned: groups of whose signs activations tell none, or products with further ones.
        unseen: the directions of maps of which they tell nothing.

    """

    parts: dict[str, Any] = field(default_factory=dict)
    seen: list[Compared] = field(default_factory=list)
    untold: list[Compared] = field(default_factory=list)
    unsigned: set[str] = field(default_factory=set)
    unseen: dict[str, Sequence[Numbers]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Turn:
    """One model to be moved to the reference.

    Attributes:
        task: the models and their groups.
        number: that of the model.
        reference: the mean of the models placed before, all balanced.
        first: the first model, balanced.
        begun: the element that balanced this model.
        own: this model, balanced.
        rounds: of the ascent, at most.

    """

    task: Task
    number: int
    reference: Mapping[str, Tensor]
    first: Mapping[str, Tensor]
    begun: Permutations
    own: Mapping[str, Tensor]
    rounds: int

    def by_weights(self, known: Known | None = None) -> Ascent:
        """By weights, but for what is known."""
        source, parts, signed = self.task.states[self.number], {} if known is None else known.parts, set[str]()
        ascent = self._ascent(self.task.spec, self.reference, self.own, source=source, begun=self.begun)
        if known is not None and parts:
            ascent.settle(parts)
            signed = sign_as_seen(ascent, known.untold, parts.keys() - known.unsigned)
            ascent.signing.again(known.unsigned - signed)
            complete(ascent, self.task.groups, known.unseen)
        held = {*parts, *signed}
        ascent.run(known=held, held=held)
        if known is not None:
            complete(ascent, self.task.groups, known.unseen)
        return ascent

    def by_activations(self, observed: Observed) -> tuple[Ascent, dict[str, Gain]]:
        """By activations, and by weights what they do not determine, dead units too; or by both at once.

        The gains are those of the groups that were matched by activations alone.

        Both models are balanced, so that their scales are comparable. The data is read once for each portion.
        """
        task, mix = self.task, observed.mix
        pair = task.models.pair(0, self.number).with_states(self.first, self.own)
        compared_at = telling(task.groups, observed.points)
        parts = portions(task.groups, compared_at, room=observed.within.room)
        gather = partial(
            moments_of, pair, batches=task.data, once=len(parts) == 1 and len(task.models) == 2,
            progress=task.progress, in_step=observed.within.in_step,
        )  # fmt: skip
        if mix < 1:
            return self._by_both(activations(task.spec, compared_at, gather(compared_at)), mix), {}
        known, dead, told = Known(), dict[str, Any](), ToldSigns(task.spec, task.groups, self.first, self.own)
        for members, points in parts:
            found = list(crosses(task.spec, points, gather(points), further_signs(task.groups)))
            terms = [told.into(term) for term in found]
            names = {name for term in terms for name in term.names}
            signed = {n for term in terms for n in term.names if n in term.odd and n not in (term.further or {})}
            here = [group for group in members if group.name in names]
            known.parts |= solve(here, terms)[1]
            known.seen += compared(here, found, known.parts)
            known.untold += compared(here, terms, known.parts)
            known.unsigned |= names - signed
            known.unseen |= unseen(here, terms, known.parts)
            dead |= dead_units(members, ((term.names, term.matrix) for term in terms))
        ascent = self.by_weights(known)
        tables = rearranged(task.spec, task.groups, dead, known.parts, ascent.a, ascent.moved)
        kinds = {group.name: group.kind for group in task.groups}
        ascent.settle({name: with_index(kinds[name], table) for name, table in tables.items()})
        return ascent, activation_gains(task.spec, known.seen, ascent.element)

    def _by_both(self, seen: Activations, mix: float) -> Ascent:
        weights = self._ascent(self.task.spec, self.reference, self.own)
        factor = mix / (1 - mix) * weights.bound / seen.bound if seen.bound else 0.0
        ascent = self._ascent(
            *seen.added(self.task.spec, self.reference, self.own, factor),
            compared={name: factor * bound for name, bound in seen.bounds.items()},
        )
        ascent.run()
        return ascent

    def _ascent(
        self, spec: PermutationSpec, a: Mapping[str, Tensor], b: Mapping[str, Tensor], **options: Any
    ) -> Ascent:
        report = None if self.task.progress is None else partial(self.task.progress)
        return Ascent(spec, self.task.groups, a, b, report, self.rounds, **options)


def _with_unseen(gains: Mapping[str, Gain], ascent: Ascent, task: Task, observed: Observed | None) -> dict[str, Gain]:
    """Gains at activations, and of all other groups those of the tensors that they move."""
    others = [group for group in task.groups if group.name not in gains]
    further = weight_gains(ascent.spec, others, ascent.a, ascent.b, ascent.moved, ascent.compared)
    if observed is not None:
        measure = MIX if observed.mix < 1 else WEIGHTS
        further = {name: replace(gain.of_bound, measure=measure) for name, gain in further.items()}
    return {group.name: {**gains, **further}[group.name] for group in task.groups}


def _mean(states: Sequence[Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
    if len(states) == 1:
        return states[0]

    def mean(name: str) -> Tensor:
        first, *others = (state[name] for state in states)
        if not first.is_floating_point():
            return first
        return torch.stack([first.double(), *(other.double() for other in others)]).mean(0).to(first.dtype)

    return each_once(states[0], mean)
