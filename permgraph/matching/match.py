"""The interface of matchers: what they take, what they return, and the registry of their names.

A matcher is a function that finds, for each of several models, the element of the symmetry group that moves it into a
common space:

    @matcher("mine", reference="arXiv 0000.00000", needs_data=True)
    def mine(task: Task, *, steps: int = 100) -> list[Match]:
        reference, *others = task.states
        parts = ...  # for each group of task.groups, which unit of the other model goes to each place
        return [task.unmoved(), *(Match(parts, gains) for parts in ...)]

It takes one `Task` and returns one `Match` for each model, in their order; that of the first model, the reference, is
the identity, `task.unmoved()`. Two models are the case n = 2. Its keyword-only parameters are its options:
`align(a, b, method="mine", steps=5)` passes them on, and refuses unknown ones. The caller does the rest: it checks
models, data and specification before, and afterwards proves that each returned element leaves its model's function
unchanged.

A matcher of this package is a file in `permgraph/matching/methods`. A distribution adds one by an entry point:

    [project.entry-points."permgraph.matchers"]
    mine = "my_package.matching:mine"
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from permgraph.algebra.kinds import Kind
from permgraph.assignment.problem import Term
from permgraph.comparing.batches import Batch, Batches, Progress
from permgraph.comparing.frames import Point
from permgraph.comparing.models import Models, State
from permgraph.comparing.points import find_points, weigh
from permgraph.errors import CalibrationError
from permgraph.learning.descent import Descent
from permgraph.matching.gains import Gain
from permgraph.matching.groups import covering, require_groups
from permgraph.matching.partners import Partners, partners_of
from permgraph.matching.weights.search import WeightSearch
from permgraph.plugins import Registry
from permgraph.symmetry.derivation.derive import Derivation
from permgraph.symmetry.elements.permutations import PermutationGroup
from permgraph.symmetry.specification.spec import PermutationSpec


@dataclass(frozen=True, eq=False)
class Task:
    """The models to match, and what a matcher can ask about them.

    Attributes:
        models: two or more of one architecture; the first is the reference. They are traced once for each shape.
        spec: their symmetry group.
        groups: the groups that may move; all others stay at the identity.
        example: example inputs, (args, kwargs); with data, the first batch.
        batches: the calibration data, or None; see `data`.
        seed: of everything random.
        progress: call it as progress(stage, done, total).

    """

    models: Models
    spec: PermutationSpec
    groups: Sequence[PermutationGroup]
    example: Batch
    batches: Batches | None = None
    seed: int = 0
    progress: Progress | None = None

    @property
    def states(self) -> tuple[State, ...]:
        """The state dict of each model, on its device."""
        return self.models.states

    @property
    def data(self) -> Batches:
        """The calibration data, which can be read any number of times. Raises CalibrationError if there is none."""
        if self.batches is None:
            raise CalibrationError("matching by activations needs data: give it calibration batches")
        return self.batches

    @cached_property
    def derivation(self) -> Derivation:
        """The axes of every activation and their groups; traced on `example`."""
        derivation = self.models.derivation(self.example, self.spec.outputs, self.spec.kinds)
        require_groups(self.spec, derivation.spec)
        return derivation

    def points(self, weights: Mapping[str, Sequence[float]] | None = None) -> list[Point]:
        """The activations at which the groups are compared, weighed by role or name."""
        mixed = {group.name for group in self.groups if Kind(group.kind).mixes}
        points = find_points(self.derivation, [group.name for group in self.groups if group.size > 1], mixed)
        return weigh(points, weights or {}, covering(self.spec))

    def unmoved(self) -> Match:
        """The match of a model that does not move, such as the reference."""
        return Match({group.name: group.identity() for group in self.groups})


@dataclass(frozen=True, eq=False)
class Match:
    """How one model is moved.

    Attributes:
        element: the part of each group that may move, as in `permgraph.symmetry.elements.parts`: of a permutation the
            table, new = old[table].
        gains: group -> its objective at the identity and at the solution; with more than two models, against the mean
            of the others.
        exact: the groups whose tables are a proven optimum.
        search: how the search ended, if there was one.
        partners: what each unit was compared with, point by point.
        descent: how the element was learned, if it was.

    """

    element: Mapping[str, Any]
    gains: Mapping[str, Gain] = field(default_factory=dict)
    exact: tuple[str, ...] = ()
    search: WeightSearch | None = None
    partners: tuple[Partners, ...] = ()
    descent: Descent | None = None


def with_partners(
    found: Sequence[Match], groups: Sequence[PermutationGroup], correlations: Mapping[tuple[int, int], Sequence[Term]]
) -> list[Match]:
    """The matches of two models, the second with what each unit correlates with; more models are returned unchanged."""
    if len(found) != 2:
        return list(found)
    first, second = found
    return [first, replace(second, partners=partners_of(groups, correlations[0, 1], second.element))]


Matcher = Callable[..., Sequence[Match]]
"""(task, *, options…) -> a match for each model."""

matcher: Registry[Callable[..., Any]] = Registry("matcher", "permgraph.matchers")
"""The decorator that registers a matcher by name, and the table of all of them."""
