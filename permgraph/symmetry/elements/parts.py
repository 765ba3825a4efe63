"""The part of an element that belongs to one group: an index table, perhaps with signs and scales, or matrices.

A part has one map for every row, that is, for every index of the groups that its group depends on. On a tensor,
`new[i] = old[index[i]]` for a permutation, `scale[i] ** power * old[index[i]]` for a monomial part, and
`Σ matrix[i, j] * old[j]` for a matrix, or its inverse transposed if the power is -1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from permgraph.algebra.kinds import Kind
from permgraph.algebra.matrices import scales
from permgraph.checkpoints.json_arrays import array_of
from permgraph.errors import CheckpointError

Index = npt.NDArray[np.int64]
STILL = 1e-9
"""The distance from the identity up to which a scale or matrix is rounding."""


@dataclass(frozen=True, eq=False)
class Monomial:
    """A permutation with a factor for each unit: `index` and `scale` have shape [..., n]."""

    index: Index
    scale: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Monomial) and _equal(self.index, other.index) and _equal(self.scale, other.scale)

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, eq=False)
class Matrix:
    """Invertible matrices [..., n, n]; `orthogonal` ones are their own inverse transposed.

    `inverse`: the inverse, if it is known already.
    """

    matrix: Any
    orthogonal: bool = False
    inverse: Any = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Matrix) and _equal(self.matrix, other.matrix)

    __hash__ = None  # type: ignore[assignment]


Part = Index | Monomial | Matrix


def _equal(a: Any, b: Any) -> bool:
    return bool(np.array_equal(np.asarray(a), np.asarray(b)))


def index_of(part: Any) -> Index:
    """The permutation in a part; the identity for matrices."""
    if isinstance(part, Matrix):
        shape = part.matrix.shape[:-1]
        return np.broadcast_to(np.arange(shape[-1]), shape)
    return part.index if isinstance(part, Monomial) else part


def changes_numbers(part: Any) -> bool:
    """Whether a part does more than put units into another order: it has a sign, a scale or a map that is not 1.

    Tensors do, whatever their values: they are learned, and have a gradient where they are 1 too.
    """
    if not isinstance(part, Matrix | Monomial):
        return False
    value, still = (part.matrix, np.eye(part.matrix.shape[-1])) if isinstance(part, Matrix) else (part.scale, 1)
    return not isinstance(value, np.ndarray) or bool(np.any(value != still))


def identity(kind: str, shape: Sequence[int]) -> Any:
    """The part that changes nothing; `shape` is that of an index table, [..., n]."""
    return with_index(kind, np.broadcast_to(np.arange(shape[-1]), shape).copy())


def with_index(name: str, index: Index) -> Any:
    """The part that only permutes; `index` is a table of permutations, [..., n]."""
    kind = Kind(name)
    if kind is Kind.PERMUTATION:
        return index
    if not kind.mixes:
        return Monomial(index, np.ones(index.shape))
    return Matrix(np.eye(index.shape[-1])[index], kind.is_orthogonal)


def sample(name: str, shape: Sequence[int], generator: np.random.Generator) -> Any:
    """A random part: uniform where its group is compact, else with scales and singular values around 1."""
    kind = Kind(name)
    if kind.facts.draw is not None:
        return Matrix(kind.facts.draw(generator, shape), kind.is_orthogonal)
    index = generator.permuted(identity("permutation", shape), axis=-1)
    if kind is Kind.PERMUTATION:
        return index
    signs = generator.choice((-1.0, 1.0), shape) if kind.has_signs else np.ones(shape)
    return Monomial(index, signs * (scales(generator, shape) if kind.has_scales else np.ones(shape)))


def problem(name: str, shape: Sequence[int], part: Any) -> str:
    """Why a part is not one of this kind and shape; "" if it is."""
    kind = Kind(name)
    if kind is Kind.PERMUTATION:
        return _index_problem(shape, part)
    if not kind.mixes:
        if not isinstance(part, Monomial):
            return f"a permutation with factors is needed, got {type(part).__name__}"
        scale = np.asarray(part.scale)
        bad = _index_problem(shape, part.index) or ("factors of another shape" if scale.shape != tuple(shape) else "")
        if not bad and not (np.isfinite(scale).all() and (scale != 0).all()):
            bad = "a factor that is 0 or not finite"
        if not bad and not kind.has_scales and np.any(np.abs(scale) != 1):
            bad = "factors other than 1 and -1"
        return bad or ("a factor below 0" if not kind.has_signs and np.any(scale < 0) else "")
    if not isinstance(part, Matrix):
        return f"matrices are needed, got {type(part).__name__}"
    matrix = np.asarray(part.matrix)
    if matrix.shape != (*shape, shape[-1]):
        return f"matrices of shape {(*shape, shape[-1])} are needed, got {matrix.shape}"
    if not np.isfinite(matrix).all():
        return "a matrix that is not finite"
    return kind.facts.fault(matrix) if kind.facts.fault is not None else ""


def _index_problem(shape: Sequence[int], part: Any) -> str:
    needed = f"a table of permutations of {shape[-1]} units with shape {tuple(shape)} is needed, got"
    try:
        table = np.asarray(part)
    except ValueError:
        return f"{needed} rows of unequal lengths"
    if table.shape != tuple(shape):
        return f"{needed} shape {table.shape}"
    if not np.issubdtype(table.dtype, np.integer):
        return f"{needed} {table.dtype} numbers"
    repeated = np.any(np.sort(table, axis=-1) != np.arange(shape[-1]))
    return f"{needed} shape {table.shape} with repeated units" if repeated else ""


def compose(p: Any, q: Any, rows: tuple[Any, ...]) -> Any:
    """The part that applies `q` first, then `p`; `rows` has for each row of `p` the row of `q` to use."""
    if isinstance(p, Matrix):
        if not changes_numbers(q):
            return Matrix(p.matrix, p.orthogonal)
        return Matrix(p.matrix @ q.matrix[rows], p.orthogonal and q.orthogonal)
    wide = tuple(row[..., None] for row in rows)
    if isinstance(p, Monomial):
        at = (*wide, p.index)
        return Monomial(q.index[at], p.scale * q.scale[at])
    return q[(*wide, p)]


def invert(p: Any, rows: tuple[Any, ...]) -> Any:
    """The inverse of `p`; its row at `rows` is the inverse of each row of `p`."""
    if isinstance(p, Matrix):
        inverse = np.empty_like(p.matrix)
        inverse[rows] = np.swapaxes(p.matrix, -1, -2) if p.orthogonal else np.linalg.inv(p.matrix)
        return Matrix(inverse, p.orthogonal)
    back = np.argsort(index_of(p), axis=-1)
    index = np.empty_like(back)
    index[rows] = back
    if not isinstance(p, Monomial):
        return index
    scale = np.empty_like(p.scale)
    scale[rows] = 1 / np.take_along_axis(p.scale, back, -1)
    return Monomial(index, scale)


def moved(part: Any) -> float:
    """The share of units that the part moves by more than rounding."""
    if isinstance(part, Matrix):
        unit = np.abs(np.asarray(part.matrix) - np.eye(part.matrix.shape[-1])).max(-1)
        return float(np.mean(unit > STILL))
    away = index_of(part) != np.arange(index_of(part).shape[-1])
    return float(np.mean(away | (np.abs(part.scale - 1) > STILL) if isinstance(part, Monomial) else away))


def to_arrays(part: Any) -> Any:
    """Its tables as arrays: integers for indices, float64 for factors and matrices."""
    if isinstance(part, Matrix):
        return {"matrix": np.asarray(part.matrix, dtype=np.float64), "orthogonal": part.orthogonal}
    if isinstance(part, Monomial):
        return {"index": np.asarray(part.index), "scale": np.asarray(part.scale, dtype=np.float64)}
    return np.asarray(part)


def from_data(data: Any, beside: Mapping[str, Any] | None = None) -> Any:
    """The part whose arrays were written as `data`; see `permgraph.checkpoints.json_arrays`.

    Raises CheckpointError for what is no part of any group.
    """
    part: Any
    if isinstance(data, dict) and "matrix" in data:
        part = Matrix(array_of(data["matrix"], beside), bool(data.get("orthogonal")))
        kind, shape = Kind.INVERTIBLE, part.matrix.shape[:-1]
    elif isinstance(data, dict) and "index" in data:
        part = Monomial(array_of(data["index"], beside), array_of(data.get("scale"), beside))
        kind, shape = Kind.MONOMIAL, part.index.shape
    else:
        part = array_of(data, beside)
        kind, shape = Kind.PERMUTATION, part.shape
    if wrong := problem(kind.value, shape, part) if shape and 0 not in shape else "a table without units":
        raise CheckpointError(f"the record has an element that is none: {wrong}. Take the record as it was written.")
    return part
