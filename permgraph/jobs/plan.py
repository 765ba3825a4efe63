"""Estimates what a job with `--max-memory` will read and hold, before the work starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from permgraph.checkpoints.lazy_state import like, memory_of
from permgraph.checkpoints.sharding import size_of
from permgraph.errors import OptionError
from permgraph.matching.weights.effort import SIZES
from permgraph.matching.weights.sites import families, sites
from permgraph.matching.weights.wide import wide_groups
from permgraph.symmetry.specification.spec import PermutationSpec
from permgraph.tracing.by_rows import AT_ONCE

PASSES = 7
"""Passes over all files: hashes; finiteness; bounds and identity; families; streams again; objective; output."""
PASSES_OF_KINDS = 14
"""The same with other kinds: two rounds over all families, their values, and balancing scales."""
SITE_BYTES, PROOF_BYTES, NESTED_BYTES = 4 * 4, 8 * 4, 8 * 7
"""For each element: A, B, the moved B and a temporary in float32; noise, moved noise and two temporaries in float64,
and three more where one group's part depends on another's."""
MIXED_BYTES = 2 * 8 * 4
"""For each element with other kinds: two tensors whose scales are balanced, and temporaries, in float64."""
ASSIGNED_BYTES = 4 + 12
"""For each pair of units: their similarity, and the solver's memory."""
SIGNED_BYTES = 6 * 4 + 12
"""The same if each pair has a sign: two parts, their sums and differences, and the solver's memory."""
AT_LEAST = 600_000_000
"""Python, PyTorch and the traced programs."""


@dataclass(frozen=True)
class Plan:
    """Passes over the files, the bytes of all of them as float32, and an estimate of the memory at the peak."""

    passes: int
    numbers: int
    largest: int
    memory: int

    def __str__(self) -> str:
        return (
            f"plan: about {self.passes} passes over {self.numbers / 1e9:.2f} billion weights, read as they are needed; "
            f"the largest group has {self.largest:,} units; about {size_of(self.memory)} of memory"
        )


def planned(
    spec: PermutationSpec, states: Sequence[Mapping[str, Tensor]], most: int, kinds: str = "permutation"
) -> Plan:
    """The plan for matching these weights by the groups of `spec`, in these kinds.

    Raises OptionError if more than `most` bytes would be needed.
    """
    groups = spec.groups
    found = [site for site in sites(spec, groups) for site in site.cut(SIZES.whole)]
    alone = kinds == "permutation"
    wide = wide_groups(groups, found, SIZES.wide_above)
    largest = max((group.size if group.name in wide else group.size * group.count for group in groups), default=0)
    known = like(states[0])
    unique = {memory_of(tensor): tensor.numel() for tensor in known.values()}
    proof = max((_proof_bytes(spec, name, tensor) for name, tensor in known.items()), default=0)
    square = (ASSIGNED_BYTES if alone else SIGNED_BYTES) * largest**2
    work = square + (SITE_BYTES if alone else MIXED_BYTES) * max((site.cell.size for site in found), default=0)
    # A family that acts twice on a site is searched with all such sites in memory, and a wide one with all of its own.
    for family in families(groups):
        mine = {group.name for group in family}
        fewest = 1 if wide.isdisjoint(mine) else 0
        own = [s for s in found if sum(not mine.isdisjoint(action.axes) for action in s.actions) > fewest]
        work = max(work, square + SITE_BYTES // 2 * sum(site.cell.size for site in own))
    memory = max(resident(), AT_LEAST) + max(work, proof)
    if memory > most:
        raise OptionError(
            f"--max-memory {size_of(most)} is too little: the largest group has {largest:,} units, and the largest "
            f"tensor takes {size_of(proof)} in the proof, in all about {size_of(memory)}. Give that much."
        )
    return Plan(PASSES if alone else PASSES_OF_KINDS, len(states) * sum(unique.values()), largest, memory)


def _proof_bytes(spec: PermutationSpec, name: str, tensor: Tensor) -> int:
    """What a proof takes for a tensor at once: for some rows of it alone, if its rows do not move."""
    layout = spec.layouts.get(name)
    cells = () if layout is None else layout.cells
    still = layout is not None and tensor.dim() == 2 and not any(cell.touches({0}) for cell in cells)
    nested = any(move.keys for cell in cells for move in cell.moves)
    count = min(tensor.numel(), AT_ONCE) if still else tensor.numel()
    return count * (NESTED_BYTES if nested else PROOF_BYTES)


def resident() -> int:
    """Peak memory of this process so far, in bytes; 0 if the system does not tell."""
    try:
        import resource
    except ImportError:  # no such figures on this system
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
