"""All constants of the search by weights, in two values: its effort, and the sizes of its arrays."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """Where a search by weights starts and when it ends. A "share of F" is relative to the objective's magnitude.

    Attributes:
        double_below: models with fewer moved elements are matched in float64, and from all `starts`.
        hurried_above: models with more moved elements stop at `worthwhile` and `enough_if_hurried`.
        starts: the most starts: the barycentre, then points near it.
        near: the share of a random element in a further start; with half of it, the search ends where it began.
        averaged_above: a family of more units is averaged during Frank-Wolfe if there are smaller ones.
        optimal: a solution within this share of the bound ends the search.
        steps: of Frank-Wolfe, at most.
        stationary: the gap, as a share of F, below which Frank-Wolfe has converged.
        stationary_if_large: the same above `double_below`, where descent takes over earlier.
        worthwhile: above `hurried_above`, a step that gains a smaller share of F is the last: each costs a sweep.
        reached: an element within this share of the bound is left to coordinate descent.
        sweeps: of coordinate descent, at most.
        enough: a family that would gain less than this share of its own objective is not changed.
        enough_if_hurried: the same above `hurried_above`; one misplaced pair among 8192 true ones still gains more.
        enumerated: for a group of at most this many units that acts twice on a site, all elements are tried.
        room: the memory for cached similarities, as a share of the moved parameters of A and B together.
        room_at_least: bytes of similarities that may always be kept.
        in_turn: whether families are placed one after the other, so that one tensor of each model is read at a time,
            instead of all at once by Frank-Wolfe; see `permgraph.matching.weights.in_turn`.

    """

    double_below: int = 2**20
    hurried_above: int = 2**24
    starts: int = 2
    near: float = 0.1
    averaged_above: int = 1024
    optimal: float = 1e-6
    steps: int = 60
    stationary: float = 1e-6
    stationary_if_large: float = 1e-3
    worthwhile: float = 0.02
    reached: float = 1e-3
    sweeps: int = 50
    enough: float = 1e-7
    enough_if_hurried: float = 1e-4
    enumerated: int = 6
    room: float = 0.1
    room_at_least: int = 2**25
    in_turn: bool = False


@dataclass(frozen=True)
class Sizes:
    """How arrays are cut up. Except for those said to be approximate, these change only time and memory.

    Attributes:
        slab: elements of a site that are worked on at once, so that no second copy of a large one is made.
        freed_above: for tensors of this many elements or more, freed temporaries are returned to the system.
        dense_above: a mixture of more permutations acts as a dense matrix.
        negligible: a permutation with a smaller weight is left out of a mixture; approximate.
        sketched_above: on sites of `sketched_from` elements where actions share leaves, the axis that nothing moves is
            projected to this many random directions; the products would otherwise cost (number of blocks) times as
            much as on other sites; approximate.
        sketched_from: elements.
        whole: a site of more elements is cut along an axis that nothing moves, such as that of the tokens.
        wide_above: a nested family of more units is matched without a matrix of all of them; see
            `permgraph.matching.weights.wide`; approximate.
        directions: to which that estimate is projected.

    """

    slab: int = 2**19
    freed_above: int = 2**20
    dense_above: int = 8
    negligible: float = 1e-9
    sketched_above: int = 16
    sketched_from: int = 2**20
    whole: int = 2**23
    wide_above: int = 2**14
    directions: int = 64


EFFORT = Effort()
IN_TURN = Effort(in_turn=True, room=0.0, room_at_least=0)
"""For models that do not fit into memory: no similarity is cached."""
SIZES = Sizes()
