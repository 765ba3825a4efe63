"""The part of an element that belongs to one group: an index table, perhaps with signs and scales, or matrices.

A part has one map for every row, that is, for every index of the groups that its group depends on. On a tensor,
`new[i] = old[index[i]]` for a permutation, `scale[i] ** power * old[index[i]]` for a monomial part, and
`Σ matrix[i, j] * old[j]` for a matrix, or its inverse transposed if the power is -1.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Index = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]
SPREAD = 0.5
"""Standard deviation of the logarithm of a random scale, and of a random singular value."""


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


def with_index(kind: str, index: Index) -> Any:
    """The part that only permutes; `index` is a table of permutations, [..., n]."""
    if kind == "permutation":
        return index
    if kind in ("signed", "scaled", "monomial"):
        return Monomial(index, np.ones(index.shape))
    return Matrix(np.eye(index.shape[-1])[index], kind != "invertible")


def sample(kind: str, shape: Sequence[int], generator: np.random.Generator) -> Any:
    """A random part: uniform where its group is compact, else with scales and singular values around 1."""
    if kind in ("permutation", "signed", "scaled", "monomial"):
        index = generator.permuted(identity("permutation", shape), axis=-1)
        if kind == "permutation":
            return index
        signs = generator.choice((-1.0, 1.0), shape) if kind != "scaled" else np.ones(shape)
        sizes = np.exp(SPREAD * generator.standard_normal(shape)) if kind != "signed" else np.ones(shape)
        return Monomial(index, signs * sizes)
    n = shape[-1]
    if kind == "centred":
        inner = rotation(generator, (*shape[:-1], n - 1))
        basis = complement_of_ones(n)
        return Matrix(basis @ inner @ basis.T + np.full((n, n), 1 / n), orthogonal=True)
    first = rotation(generator, shape)
    if kind == "orthogonal":
        return Matrix(first, orthogonal=True)
    stretch = np.exp(SPREAD * generator.standard_normal(shape))
    return Matrix(first * stretch[..., None, :] @ rotation(generator, shape))


def rotation(generator: np.random.Generator, shape: Sequence[int]) -> Numbers:
    """Orthogonal matrices [..., n, n], uniformly random."""
    if not shape[-1]:
        return np.zeros((*shape, 0))
    q, r = np.linalg.qr(generator.standard_normal((*shape, shape[-1])))
    return np.asarray(q * np.sign(np.diagonal(r, axis1=-2, axis2=-1))[..., None, :])


def complement_of_ones(n: int) -> Numbers:
    """An orthonormal basis [n, n - 1] of the vectors whose elements sum to 0."""
    q, _ = np.linalg.qr(np.eye(n) - 1 / n)
    return np.asarray(q[:, : n - 1])


def problem(kind: str, shape: Sequence[int], part: Any) -> str:
    """Why a part is not one of this kind and shape; "" if it is."""
    if kind == "permutation":
        return _index_problem(shape, part)
    if kind in ("signed", "scaled", "monomial"):
        if not isinstance(part, Monomial):
            return f"a permutation with factors is needed, got {type(part).__name__}"
        scale = np.asarray(part.scale)
        bad = _index_problem(shape, part.index) or ("factors of another shape" if scale.shape != tuple(shape) else "")
        if not bad and not (np.isfinite(scale).all() and (scale != 0).all()):
            bad = "a factor that is 0 or not finite"
        if not bad and kind == "signed" and np.any(np.abs(scale) != 1):
            bad = "factors other than 1 and -1"
        return bad or ("a factor below 0" if kind == "scaled" and np.any(scale < 0) else "")
    if not isinstance(part, Matrix):
        return f"matrices are needed, got {type(part).__name__}"
    matrix = np.asarray(part.matrix)
    if matrix.shape != (*shape, shape[-1]):
        return f"matrices of shape {(*shape, shape[-1])} are needed, got {matrix.shape}"
    return _matrix_problem(kind, matrix)


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


def _matrix_problem(kind: str, matrix: Numbers) -> str:
    n = matrix.shape[-1]
    if not np.isfinite(matrix).all():
        return "a matrix that is not finite"
    if kind != "invertible" and np.abs(matrix @ np.swapaxes(matrix, -1, -2) - np.eye(n)).max(initial=0) > 1e-6:
        return "a matrix that is not orthogonal"
    if kind == "centred" and np.abs(matrix.sum(-1) - 1).max(initial=0) > 1e-6:
        return "a matrix that does not leave the vector of ones where it is"
    return "a matrix that has no inverse" if kind == "invertible" and np.any(np.linalg.cond(matrix) > 1e12) else ""


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
    """The share of units that the part moves."""
    if isinstance(part, Matrix):
        unit = np.abs(np.asarray(part.matrix) - np.eye(part.matrix.shape[-1])).max(-1)
        return float(np.mean(unit > 1e-9))
    away = index_of(part) != np.arange(index_of(part).shape[-1])
    return float(np.mean(away | (part.scale != 1) if isinstance(part, Monomial) else away))


def to_data(part: Any) -> Any:
    """Plain values for JSON: lists of indices; numbers as their shape and float64 bytes in base64."""
    if isinstance(part, Matrix):
        return {"matrix": _packed(part.matrix), "orthogonal": part.orthogonal}
    if isinstance(part, Monomial):
        return {"index": part.index.tolist(), "scale": _packed(part.scale)}
    return part.tolist()


def from_data(data: Any) -> Any:
    """The inverse of `to_data`."""
    if isinstance(data, dict) and "matrix" in data:
        return Matrix(_unpacked(data["matrix"]), bool(data["orthogonal"]))
    if isinstance(data, dict):
        return Monomial(np.array(data["index"], dtype=np.int64), _unpacked(data["scale"]))
    return np.array(data, dtype=np.int64)


def _packed(values: Any) -> dict[str, Any]:
    array = np.ascontiguousarray(values, dtype="<f8")
    return {"shape": list(array.shape), "base64": b64encode(array.tobytes()).decode()}


def _unpacked(data: dict[str, Any]) -> Numbers:
    return np.frombuffer(b64decode(data["base64"]), dtype="<f8").reshape(data["shape"]).astype(np.float64)
