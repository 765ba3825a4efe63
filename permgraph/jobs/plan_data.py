"""Estimates what a job with `--max-memory` and `--data` will read and hold, before the work starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from torch import Tensor, fx
from torch.utils import _pytree as pytree

from permgraph.checkpoints.sharding import size_of
from permgraph.comparing.frames import Point
from permgraph.comparing.points import find_points
from permgraph.errors import OptionError
from permgraph.jobs.plan import AT_LEAST, PROOF_BYTES, resident
from permgraph.matching.correlation import Within
from permgraph.matching.portions import held, portions
from permgraph.symmetry.derivation.derive import Derivation
from permgraph.symmetry.elements.permutations import PermutationGroup
from permgraph.tracing.by_rows import AT_ONCE, by_rows
from permgraph.tracing.program import Program

WEIGHT_BYTES = 2 * 4 + 2
"""For each element of a weight: both models in float32, and one as stored."""
LEARNING_BYTES, COORDINATE_BYTES = 10 * 4, 10 * 4
"""For each element of a weight: A, B, B moved, the merge, their gradients and temporaries in float32. For each number
that is learned: itself, its gradient, Adam's means, and the map and its inverse with what their gradients need."""
READINGS_OF_A_STEP = 4
"""For the parents' outputs, the merge, and twice for its gradient."""
MOST_IN_STEP = 64
"""The most batches that go through the models together."""


@dataclass(frozen=True)
class DataPlan:
    """How often the data is read, how much each reading holds, and an estimate of the peak memory in bytes."""

    readings: int
    within: Within
    memory: int

    def __str__(self) -> str:
        times = "once" if self.readings == 1 else f"{self.readings} times"
        step = "a batch" if self.within.in_step == 1 else f"{self.within.in_step} batches"
        return (
            f"plan: the data is read {times}, {step} at a time; for these the weights are read once, layer by layer; "
            f"about {size_of(self.memory)} of memory"
        )


def planned_with_data(derivation: Derivation, groups: Sequence[PermutationGroup], most: int) -> DataPlan:
    """The plan for matching `groups` by activations, for batches like the traced one.

    After the moments of the largest group, half of the remaining memory is for the activations of batches in step, and
    half for more moments. Raises OptionError if more than `most` bytes would be needed.
    """
    program = derivation.program
    points = find_points(derivation, [group.name for group in groups if group.size > 1])
    alive = _alive(program, points)
    parted = by_rows(program)
    sizes = {name: prod(shape) for name, shape in program.shapes.items()}
    largest = max((min(size, AT_ONCE) if name in parted else size for name, size in sizes.items()), default=0)
    base = max(resident(), AT_LEAST)
    needed = max((held(*part) for part in portions(groups, points, room=0)), default=0)
    least = base + max(WEIGHT_BYTES * largest + 2 * alive + needed, PROOF_BYTES * largest)
    if least > most:
        raise OptionError(
            f"--max-memory {size_of(most)} is too little: to compare the activations of the widest groups takes about "
            f"{size_of(least)}, for batches of these sizes. Give that much, or leave out --data."
        )
    free = most - base - WEIGHT_BYTES * largest
    in_step = max(1, min(MOST_IN_STEP, (free - needed) // (4 * max(alive, 1))))
    room = free - 2 * in_step * alive
    parts = portions(groups, points, room=room)
    memory = base + WEIGHT_BYTES * largest + 2 * in_step * alive + max((held(*part) for part in parts), default=0)
    return DataPlan(len(parts), Within(room, in_step), max(memory, least))


@dataclass(frozen=True)
class LearningPlan:
    """An estimate of the peak memory of a step of learning in bytes."""

    memory: int

    def __str__(self) -> str:
        return (
            f"plan: each step of learning reads all weights of both models {READINGS_OF_A_STEP} times; "
            f"about {size_of(self.memory)} of memory"
        )


def planned_to_learn(derivation: Derivation, groups: Sequence[PermutationGroup], most: int) -> LearningPlan:
    """The plan for learning the continuous part of `groups` on batches like the traced one.

    All activations of the merge are kept for the backward pass, its weights are computed again. Raises OptionError if
    more than `most` bytes would be needed.
    """
    program = derivation.program
    kept = sum(_bytes(node) for node in program.graph.graph.nodes)
    largest = max((prod(shape) for shape in program.shapes.values()), default=0)
    numbers = sum(prod((*group.table_shape, group.size)) for group in groups if group.dimension)
    memory = max(resident(), AT_LEAST) + kept + LEARNING_BYTES * largest + COORDINATE_BYTES * numbers
    if memory > most:
        raise OptionError(
            f"--max-memory {size_of(most)} is too little: a step of learning takes about {size_of(memory)}, for "
            "batches of these sizes. Give that much, smaller batches, or another --method."
        )
    return LearningPlan(memory)


def _alive(program: Program, points: Sequence[Point]) -> int:
    """The most bytes of activations of one model that are alive at the same time, up to the last of the points."""
    wanted = {point.node for point in points}
    nodes = list(program.graph.graph.nodes)
    end = max((k for k, node in enumerate(nodes) if node.name in wanted), default=0)
    last = {before: k for k, node in enumerate(nodes) for before in node.all_input_nodes}
    alive = most = 0
    for k, node in enumerate(nodes[: end + 1]):
        alive += _bytes(node)
        most = max(most, alive)
        alive -= sum(_bytes(before) for before in node.all_input_nodes if last[before] == k)
    return most


def _bytes(node: fx.Node) -> int:
    values = pytree.tree_leaves(node.meta.get("val")) if node.op == "call_function" else []
    return sum(value.numel() * value.element_size() for value in values if isinstance(value, Tensor))
