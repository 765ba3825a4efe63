"""A residual stream of a smaller model in the wider one of a larger model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn

from permgraph.comparing.batches import Batch
from permgraph.symmetry.derivation.affine import uniform_among
from permgraph.symmetry.derivation.derive import Derivation
from permgraph.symmetry.derivation.folding import Foldable, foldable
from permgraph.symmetry.specification.mappings import Transfer
from permgraph.tracing.program import Program

ROTATES = ("orthogonal", "centred")
Shape = tuple[int, ...]
State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Widening:
    """x' = c V x with c² = d_A / d_B and VᵀV = 1: the norm of x' is c V times that of x.

    What writes the stream is multiplied by c V, what reads it by V / c; norms are folded first, and scale by 1 before
    and after. For norms that subtract the mean, V maps the vector of ones to a multiple of the vector of ones.

    Attributes:
        fold: how B's norms are folded; None if no stream is widened.
        moves: tensor of B -> (dimension, matrix) for each axis that is widened.
        held: tensor of B -> length, of the vectors that scale by 1.
        sizes: group -> width of its stream in B and in A.

    """

    fold: Foldable | None = None
    moves: Mapping[str, Sequence[tuple[int, Tensor]]] = field(default_factory=dict)
    held: Mapping[str, int] = field(default_factory=dict)
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def __call__(self, state: State) -> State:
        """B's tensors with the widened streams."""
        if self.fold is None:
            return state
        found = dict(self.fold.folded((state,))[0].state_dict)
        for name, moves in self.moves.items():
            for dim, matrix in moves:
                moved = torch.tensordot(found[name].double(), matrix, dims=([dim], [1]))
                found[name] = moved.movedim(-1, dim).to(state[name].dtype)
        for name, size in self.held.items():
            found[name] = found[name][:1].expand(size).clone()
        return found

    def shapes(self, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
        """The shapes of B's tensors with the widened streams."""
        found = dict(shapes) | {name: (size,) for name, size in self.held.items()}
        for name, moves in self.moves.items():
            for dim, matrix in moves:
                found[name] = (*found[name][:dim], len(matrix), *found[name][dim + 1 :])
        return found


def widening(
    model: nn.Module, program: Program, example: Batch, tie: Any, state: State, wanted: Mapping[str, Shape]
) -> Widening:
    """The streams of B that are narrower than A's and that rotate once the norms are folded.

    `wanted`: tensor of B -> its shape in A. Streams that do not rotate are left, for the caller to refuse.
    """
    if all(tuple(state[name].shape) == wanted.get(name) for name in state):
        return Widening()
    fold = foldable(model, program, untie=False, args=example[0], kwargs=example[1])
    folded = fold.folded((state,))[0].state_dict
    spec = Derivation(program, "fixed", tie, "all", uniform_among(program, (folded,))).spec
    moves: dict[str, list[tuple[int, Tensor]]] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for stream in spec.mappings().rotations:
        width = _width_in_a(stream, state, wanted)
        if width <= stream.size:
            continue
        sizes[stream.group] = stream.size, width
        matrix = isometry(width, stream.size, centred=stream.kind == "centred")
        scale = sqrt(width / stream.size)
        for places, factor in ((stream.takes, scale), (stream.gives, 1 / scale)):
            for name, dim, _ in places:
                moves.setdefault(name, []).append((dim, factor * matrix))
    widths = dict(sizes.values())
    held = {
        name: widths[len(folded[name])]
        for name in spec.held
        if folded[name].dim() == 1 and wanted.get(name) == (widths.get(len(folded[name])),)
    }
    return Widening(fold, moves, held, sizes) if sizes else Widening()


def _width_in_a(stream: Transfer, state: State, wanted: Mapping[str, Shape]) -> int:
    """The width of a stream in A; 0 if it does not rotate as a whole, or not all its axes have one width there."""
    places = [(name, dim) for name, dim, _ in (*stream.takes, *stream.gives)]
    if stream.kind not in ROTATES or stream.count > 1 or any(name not in wanted for name, _ in places):
        return 0
    whole = all(state[name].shape[dim] == stream.size for name, dim in places)
    widths = {wanted[name][dim] for name, dim in places}
    return widths.pop() if whole and len(widths) == 1 else 0


def isometry(rows: int, columns: int, *, centred: bool) -> Tensor:
    """V, [rows, columns], with VᵀV = 1; V 1 is a multiple of 1 and Vᵀ 1 too if `centred`. float64."""
    if not centred:
        return torch.eye(rows, columns, dtype=torch.float64, device="cpu")
    return _reflection(rows)[:, :columns] @ _reflection(columns).T


def _reflection(size: int) -> Tensor:
    """The reflection that exchanges the first unit vector and 1 / √size."""
    vector = torch.full((size,), -1 / sqrt(size), dtype=torch.float64, device="cpu")
    vector[0] += 1
    norm = vector @ vector
    eye = torch.eye(size, dtype=torch.float64, device="cpu")
    return eye - 2 * torch.outer(vector, vector) / norm if norm > 0 else eye
