"""Matching in all kinds: models are balanced, matched by activations or weights, and moved to the reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from permgraph.algebra.kinds import Kind
from permgraph.checkpoints.lazy_state import LazyState, each_once, slabs_of
from permgraph.comparing.frames import Point
from permgraph.comparing.moments import CrossMoments
from permgraph.matching.correlation import WITHOUT, Within, chosen_points, moments_of
from permgraph.matching.gains import Gain
from permgraph.matching.kinds.ascent import ROUNDS, ROUNDS_IN_TURN, Ascent
from permgraph.matching.kinds.balance import balance
from permgraph.matching.kinds.crosses import dot
from permgraph.matching.kinds.family import Cross, solve
from permgraph.matching.kinds.places import Place, further_sign, places
from permgraph.matching.match import Match, Task
from permgraph.matching.portions import portions
from permgraph.symmetry.spec import PermutationSpec


def match_kinds(
    task: Task, points: Sequence[Point] | None = None, *, rounds: int | None = None, within: Within = WITHOUT
) -> list[Match]:
    """P_m = c_A⁻¹ g c_m: c brings a model to its smallest norm, g matches it there to those already placed.

    With `points`, permutations, signs and rotations are matched by activations, at these points of the first model and
    each other one, with as much in memory as `within` says; groups that occur in no activation, and the remaining
    signs, are matched by weights, in at most `rounds`: fewer where each is a pass over files.
    """
    if rounds is None:
        rounds = ROUNDS_IN_TURN if any(isinstance(state, LazyState) for state in task.states) else ROUNDS
    spec, names = task.spec, [group.name for group in task.groups]
    balanced = [balance(spec, state, names) for state in task.states]
    placed: list[Mapping[str, Tensor]] = [balanced[0][1]]
    found = [task.unmoved()]
    for number in range(1, len(task.models)):
        reference, own = _mean(placed), balanced[number][1]
        ascent = Ascent(
            spec, task.groups, reference, own, _report(task), rounds, task.states[number], balanced[number][0]
        )
        if points is None:
            element = ascent.run()
        else:
            seen, unsigned = _by_activations(task, points, (balanced[0][1], own), number, within)
            ascent.settle(seen)
            ascent.sign_again(unsigned)
            element = ascent.run(known=seen, held=seen)
        placed.append(ascent.moved)
        total = spec.compose(spec.invert(balanced[0][0]), spec.compose(element, balanced[number][0]))
        gains = weight_gains(spec, task.groups, reference, own, ascent.moved)
        found.append(Match({name: total[name] for name in names}, gains))
    return found


def _report(task: Task) -> Any:
    return None if task.progress is None else partial(task.progress)


def _mean(states: Sequence[Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
    if len(states) == 1:
        return states[0]

    def mean(name: str) -> Tensor:
        first, *others = (state[name] for state in states)
        if not first.is_floating_point():
            return first
        return torch.stack([first.double(), *(other.double() for other in others)]).mean(0).to(first.dtype)

    return each_once(states[0], mean)


def _by_activations(
    task: Task, points: Sequence[Point], states: tuple[Mapping[str, Tensor], ...], number: int, within: Within
) -> tuple[dict[str, Any], set[str]]:
    """The best parts of the groups that activations determine, and the groups whose signs they do not determine.

    Both models are balanced, so that their scales are comparable. The data is read once for each portion of the groups.
    """
    pair = task.models.pair(0, number).with_states(*states)
    found, unsigned, parts = dict[str, Any](), set[str](), portions(task.groups, points, room=within.room)
    once = len(parts) == 1 and len(task.models) == 2
    for members, here in parts:
        moments = moments_of(pair, here, task.data, once=once, progress=task.progress, in_step=within.in_step)
        terms = list(_terms(task.spec, here, moments))
        names = {name for term in terms for name in term.names}
        signed = {n for term in terms for n in term.names if n in term.odd and n not in (term.further or {})}
        found |= solve([group for group in members if group.name in names], terms)[1]
        unsigned |= names - signed
    return found, unsigned


def _terms(spec: PermutationSpec, points: Sequence[Point], moments: dict[int, CrossMoments]) -> Iterator[Cross]:
    mixing = {group.name for group in spec.groups if Kind(group.kind).mixes}
    for k in chosen_points(points, moments):
        point, moment = points[k], moments.pop(k)
        moment.require_signal()
        mixed = mixing.intersection(point.groups)
        matrix = moment.overlap(last=True) if mixed else moment.correlation(last=True)
        matrix *= point.weight
        moves = {m.group: m for m in point.cell.moves if m.leaves and m.group in point.groups}
        odd = frozenset(name for name, move in moves.items() if move.power % 2)
        further = {name: sign for name, move in moves.items() if (sign := further_sign(point.cell, move))}
        yield Cross(point.groups, matrix.reshape(point.sizes * 2), odd, further)


def weight_gains(
    spec: PermutationSpec,
    groups: Sequence[Any],
    reference: Mapping[str, Tensor],
    before: Mapping[str, Tensor],
    after: Mapping[str, Tensor],
) -> dict[str, Gain]:
    """Σ <θ_A, θ_B> over the tensors of a group, unmoved and moved, and Σ |θ_A| |θ_B|; each tensor is read once."""
    by_tensor: dict[str, dict[Any, list[Place]]] = {}
    for here in places(spec, [group.name for group in groups]).values():
        for place in here:
            cells = by_tensor.setdefault(place.name, {})
            cells.setdefault((place.cell.offsets, place.cell.leaves), []).append(place)
    states = reference, before, after
    found = {group.name: np.zeros(3) for group in groups}
    for name, cells in by_tensor.items():
        whole = len(cells) == 1 and all(here[0].cell.is_all_of(spec.shapes[name]) for here in cells.values())
        slabs = zip(*(slabs_of(state, name) for state in states), strict=True)
        sums = {key: np.zeros(4) for key in cells}
        for sides in slabs if whole else [[state[name] for state in states]]:
            for key, here in cells.items():
                a, b, moved = sides if whole else [here[0].cell.block(side) for side in sides]
                sums[key] += dot(a, b), dot(a, moved), dot(a, a), dot(b, b)
        for key, here in cells.items():
            for place in here:
                found[place.move.group] += *sums[key][:2], (sums[key][2] * sums[key][3]) ** 0.5
    return {name: Gain(*map(float, sums)) for name, sums in found.items()}
