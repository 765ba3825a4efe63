"""A point of the graph where units are compared: which entries of an activation are units, and which are frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from math import prod

import torch
from torch import Tensor

from permgraph.errors import CalibrationError
from permgraph.symmetry.elements.cells import Cell, Leaf


@dataclass(frozen=True)
class Point:
    """A cell of an activation: the groups on it, outer to inner, and the leaves that each of them indexes.

    Leaves without a group (batch, time, space) are frames, except those in `averaged`, over which the mean is taken.
    `weight` multiplies its correlations. A point in `reserve` is used only if the other points of a group have too few
    frames or are constant. `inside` is the label of a tensor inside the node's operation.
    """

    node: str
    shape: tuple[int, ...]
    cell: Cell
    groups: tuple[str, ...]
    units: tuple[tuple[int, ...], ...]
    weight: float = 1.0
    reserve: bool = False
    averaged: tuple[int, ...] = ()
    inside: str = ""

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of units of each group."""
        return tuple(prod(self.cell.leaves[k].size for k in leaves) for leaves in self.units)

    @property
    def frame_leaves(self) -> tuple[int, ...]:
        """The leaves that are frames."""
        return tuple(k for k in range(len(self.cell.leaves)) if k not in chain(self.averaged, *self.units))

    @property
    def frame_dims(self) -> set[int]:
        """The dimensions along which there is more than one frame."""
        return {self.cell.leaves[k].dim for k in self.frame_leaves if self.cell.leaves[k].size > 1}

    @property
    def frame_count(self) -> int:
        """The number of frames here in the batch that was traced."""
        return prod(self.cell.leaves[k].size for k in self.frame_leaves)

    def resized(self, shape: Sequence[int]) -> Point:
        """The same point on a batch of another shape: only dimensions of frames may differ."""
        if tuple(shape) == self.shape:
            return self
        leaves, offsets = list(self.cell.leaves), list(self.cell.offsets)
        for dim, (old, new) in enumerate(zip(self.shape, shape, strict=True)):
            if old == new:
                continue
            here = [k for k, leaf in enumerate(leaves) if leaf.dim == dim]
            start, size = _stretched(offsets[dim], leaves[here[0]].size, old, new)
            if (
                len(here) != 1
                or here[0] not in self.frame_leaves
                or leaves[here[0]].stride != 1
                or size < 1
                or start < 0
            ):
                raise CalibrationError(
                    f"{self.node} has shape {tuple(shape)} on this batch, {self.shape} before; "
                    "give batches of one shape"
                )
            offsets[dim], leaves[here[0]] = start, replace(leaves[here[0]], size=size)
        return replace(self, shape=tuple(shape), cell=Cell(tuple(offsets), tuple(leaves), self.cell.moves))

    def frames(self, activation: Tensor) -> Tensor:
        """[..., units]: the activation, frames first, then its units in the order of `groups`; a view if possible."""
        for dim in range(activation.dim()):
            here = [leaf for leaf in self.cell.leaves if leaf.dim == dim]
            count = prod(leaf.size for leaf in here)
            if count != activation.shape[dim] or any(a.stride < b.stride for a, b in pairwise(here)):
                index = self.cell.positions(dim, self.cell.own_coordinates(dim)).ravel()
                activation = activation.index_select(dim, torch.from_numpy(index).to(activation.device))
        activation = activation.reshape([leaf.size for leaf in self.cell.leaves])
        frames, averaged = self.frame_leaves, self.averaged
        if averaged:
            activation = activation.mean(averaged, keepdim=True)
        ordered = activation.permute([*frames, *averaged, *chain(*self.units)])
        return ordered.flatten(len(frames)) if frames else ordered.reshape(1, -1)

    def apart(self, dependencies: Mapping[str, tuple[str, ...]]) -> list[Point]:
        """One point for each set of groups that depend on each other, with the mean over the units of all other groups.

        No permutation of the other groups changes a mean over their units. Otherwise a layer that mixes positions, with
        256 hidden units for each of 512 channels, would be compared at 131072 units.
        """
        sets: list[set[str]] = []
        for name in self.groups:
            met = [one for one in sets if not one.isdisjoint({name, *dependencies.get(name, ())})]
            sets = [one for one in sets if one not in met] + [{name}.union(*met)]
        if len(sets) == 1:
            return [self]
        found = []
        for here in sets:
            units = [(name, leaves) for name, leaves in zip(self.groups, self.units, strict=True) if name in here]
            names, leaves = zip(*units, strict=True)
            others = (k for name, key in zip(self.groups, self.units, strict=True) if name not in here for k in key)
            found.append(replace(self, groups=names, units=leaves, averaged=tuple(others)))
        return found

    def kept(self, mask: Tensor | None) -> Tensor | None:
        """Which frames are not padding, given a mask [batch, positions] of the input; None keeps all.

        Position j of T' covers positions jT/T' to (j+1)T/T' of the input, and is kept if none of these is padding.
        Applies where the frames are positions of samples, and the samples those of the mask.
        """
        units = {self.cell.leaves[k].dim for k in chain(self.averaged, *self.units)}
        along = [dim for dim, size in enumerate(self.shape) if dim and size > 1 and dim not in units]
        if mask is None or bool(mask.all()) or self.shape[0] != mask.shape[0] or len(along) != 1 or 0 in units:
            return None
        total = torch.nn.functional.pad(mask.long().cumsum(1), (1, 0))
        edges = torch.linspace(0, mask.shape[1], self.shape[along[0]] + 1, device=mask.device)
        low, high = edges[:-1].floor().long(), edges[1:].ceil().long()
        whole = total[:, high] - total[:, low] == high - low
        rows, columns = (self._frame_positions(dim).to(mask.device) for dim in (0, along[0]))
        return whole[rows, columns].reshape(-1)

    def _frame_positions(self, dim: int) -> Tensor:
        """Positions on a dimension, one dimension for each frame leaf."""
        here = self.cell.positions(dim, self.cell.coordinates())
        sizes = [self.cell.leaves[k].size for k in self.frame_leaves]
        chosen = tuple(slice(None) if k in self.frame_leaves else 0 for k in range(len(self.cell.leaves)))
        return torch.from_numpy(here[chosen].copy()).expand(sizes)


def _stretched(offset: int, size: int, old: int, new: int) -> tuple[int, int]:
    """Offset and size in a dimension of `new` positions of a segment that has these in one of `old` positions.

    A segment of more than half of the positions keeps its distances from both ends (what follows a class token); a
    smaller one keeps its size and its distance from the nearer end (the class token itself).
    """
    after = old - offset - size
    if size > offset + after:
        return offset, new - offset - after
    return (offset if offset <= after else new - after - size), size


def kept_rows(mask: Tensor | None, frames: int) -> Tensor | None:
    """Bool [frames]: which rows of an activation, sample after sample, hold no padding; None keeps all.

    By the rule of `Point.kept`; all are kept where a sample has but one row, or samples have no equal number.
    """
    if mask is None or frames % mask.shape[0] or frames == mask.shape[0]:
        return None
    sizes = (mask.shape[0], frames // mask.shape[0], 1)
    cell = Cell((0, 0, 0), tuple(Leaf(dim, size, 1) for dim, size in enumerate(sizes)), ())
    return Point("", sizes, cell, ("",), ((2,),)).kept(mask)
