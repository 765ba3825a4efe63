"""What one operation says about the axes of its tensors: its variables, and the operands that carry them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from permgraph.algebra.axes import Axis, freeze
from permgraph.algebra.kinds import Kind
from permgraph.algebra.laws import Law


@dataclass(frozen=True)
class Source:
    """Where in the model an operation comes from."""

    op: str
    module: str = ""
    line: str = ""

    def __str__(self) -> str:
        place = f" in {self.module}" if self.module else ""
        return f"{self.op}{place}" + (f" ({self.line})" if self.line else "")


@dataclass(eq=False)
class Value:
    """A tensor of the trace, with an `Axis` for each dimension.

    Along the dimensions in `uniform` all elements are equal, so that every permutation leaves the tensor unchanged; as
    an operand it does not constrain them. `data` has the elements of a constant of integers; `zero`: all elements are
    0. `largest` bounds every change of basis: integers, booleans, and a constant that is written to are only permuted.
    If the elements are numbers of units, such as those that `topk` returns, `picks` is their one-hot tensor, with one
    more axis. `counted` is False where a size depends on data: `shape` has a stand-in for it.
    """

    name: str
    kind: str  # "parameter" | "buffer" | "constant" | "input" | "activation"
    shape: tuple[int, ...]
    axes: tuple[Axis, ...]
    source: Source
    uses_parameters: bool = True
    boolean: bool = False
    uniform: frozenset[int] = frozenset()
    data: Tensor | None = None
    zero: bool = False
    largest: Kind = Kind.INVERTIBLE
    picks: Value | None = None
    counted: bool = True

    @classmethod
    def fresh(cls, name: str, kind: str, shape: Sequence[int], source: Source, frozen: str = "") -> Value:
        """A value with fresh axes."""
        axes = tuple(Axis(size, frozen) for size in shape)
        return cls(name, kind, tuple(shape), axes, source)


@dataclass(frozen=True)
class Atom:
    """The positions `start` to `stop` of a variable."""

    variable: str
    start: int
    stop: int

    @property
    def size(self) -> int:
        """How many positions."""
        return self.stop - self.start


Dim = tuple[Atom, ...]


@dataclass(frozen=True)
class Operand:
    """A tensor with each of its dimensions written as a product of atoms."""

    value: Value
    dims: tuple[Dim, ...]


@dataclass
class Relation:
    """The index law of one operation: variables with their axes, and the operands that carry them.

    `segmented`: variables of which some operand has only a part. `told_apart`: parts that are uniform; their operands
    carry no atom of them, so only this shows where they end. `given`: this many operands are read, the others are
    results. `laws`: how a change of basis of a variable passes through; a variable without a law allows permutations.
    `unordered`: variable -> a variable whose positions are some of its units in no particular order. `made`: the names
    of all tensors that the operation makes or writes to, but for the parts that an earlier relation of it makes; None
    if no operation made the relation.

    A tensor that is constant along the variables `ignored[k]` may be added to operand k. Along `averaged[k]`, operand k
    is averaged with weights that sum to 1. Along `steady`, the sum of the result is one constant, as for a softmax.
    Only the sum of operand k and operand `twins[k]`, which have the same indices, is read.
    """

    source: Source
    variables: dict[str, Axis]
    operands: tuple[Operand, ...]
    inner: tuple[frozenset[str], ...] = ()
    contracted: frozenset[str] = frozenset()
    segmented: frozenset[str] = frozenset()
    told_apart: tuple[Atom, ...] = ()
    limits: dict[str, tuple[Kind, str]] = field(default_factory=dict)
    given: int = 0
    laws: dict[str, Law] = field(default_factory=dict)
    unordered: dict[str, str] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)
    made: frozenset[str] | None = None
    ignored: dict[int, frozenset[str]] = field(default_factory=dict)
    averaged: dict[int, frozenset[str]] = field(default_factory=dict)
    steady: frozenset[str] = frozenset()
    twins: dict[int, int] = field(default_factory=dict)

    def freeze(self) -> None:
        """Freeze the pinned variables: their parts need not be distinguished, so later cuts make no cells."""
        for name, (_, why) in self.limits.items():
            freeze(self.variables[name], f"{self.source}: {why}")

    def allow(self, variable: str, what: Kind, why: str) -> None:
        """Bound the symmetry of a variable; the meet of all bounds is what remains."""
        if variable in self.variables and what is Kind.IDENTITY:
            self.limits[variable] = (what, why)
