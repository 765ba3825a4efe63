"""Similarity of the weights of two models: cosines and distances by tensor, by layer and by group."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import sqrt

from torch import Tensor

from permgraph.symmetry.specification.spec import PermutationSpec

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Sums:
    """Σ a², Σ b² and Σ a b over some weights of A and B."""

    aa: float = 0.0
    bb: float = 0.0
    ab: float = 0.0

    @classmethod
    def of(cls, a: Tensor, b: Tensor) -> Sums:
        """The sums of two tensors, in float64."""
        one, other = (tensor.detach().double().reshape(-1) for tensor in (a, b))
        return cls(float(one @ one), float(other @ other), float(one @ other))

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.aa + other.aa, self.bb + other.bb, self.ab + other.ab)

    @property
    def cosine(self) -> float:
        """<a, b> / |a| |b|; 1 where both are 0, 0 where one is."""
        if self.aa <= 0 or self.bb <= 0:
            return float(self.aa <= 0 and self.bb <= 0)
        return max(-1.0, min(1.0, self.ab / sqrt(self.aa * self.bb)))


@dataclass(frozen=True)
class Similarity:
    """The cosine and |a - b| / |a| of some weights of A and B; unmoved, and with B moved to A.

    Attributes:
        unmoved: the cosine of A and B, unmoved.
        aligned: the cosine with B moved.
        unmoved_distance: the distance of A and B, unmoved.
        aligned_distance: the distance with B moved.

    """

    unmoved: float
    aligned: float
    unmoved_distance: float
    aligned_distance: float


@dataclass(frozen=True)
class Measured:
    """Sums and squared distances of each tensor, unmoved and moved; tied tensors once."""

    before: Mapping[str, tuple[Sums, float]]
    after: Mapping[str, tuple[Sums, float]]

    @classmethod
    def of(cls, spec: PermutationSpec, a: State, b: State, moved: State) -> Measured:
        """The sums of all floating-point tensors of A, B, and the moved B."""
        names = [n for n in a if n not in spec.ties.aliases and a[n].is_floating_point()]
        before, after = (
            {name: (Sums.of(a[name], one[name]), _squared(a[name], one[name])) for name in names} for one in (b, moved)
        )
        return cls(before, after)

    def similarity(self, names: Iterable[str]) -> Similarity:
        """The similarity of these tensors together."""
        chosen = [name for name in names if name in self.before]
        sums = [sum((side[name][0] for name in chosen), Sums()) for side in (self.before, self.after)]
        squares = [sum(side[name][1] for name in chosen) for side in (self.before, self.after)]
        distances = [_relative(square, one.aa) for square, one in zip(squares, sums, strict=True)]
        return Similarity(sums[0].cosine, sums[1].cosine, distances[0], distances[1])

    def by_group(self, spec: PermutationSpec) -> dict[str, Similarity]:
        """Group -> the similarity of the tensors on which it acts."""
        acting = {n: spec.layouts[n].groups for n in self.before if n in spec.layouts}
        return {
            group.name: self.similarity(name for name, groups in acting.items() if group.name in groups)
            for group in spec.groups
        }

    def by_layer(self) -> dict[str, Similarity]:
        """Layer -> the similarity of its tensors; a layer is a name up to its first number, or to its first dot."""
        layers: dict[str, list[str]] = {}
        for name in self.before:
            layers.setdefault(layer_of(name), []).append(name)
        return {layer: self.similarity(names) for layer, names in layers.items()}


def layer_of(name: str) -> str:
    """`encoder.layer.3.output.dense.weight` belongs to `encoder.layer.3`, `pooler.dense.weight` to `pooler`."""
    parts = name.split(".")
    number = next((k for k, part in enumerate(parts[:-1]) if part.isdigit()), 0)
    return ".".join(parts[: number + 1])


def _squared(a: Tensor, b: Tensor) -> float:
    return float((a.detach().double() - b.detach().double()).square().sum())


def _relative(square: float, size: float) -> float:
    return sqrt(square / size) if size > 0 else float(square > 0)
