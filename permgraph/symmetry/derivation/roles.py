"""The roles of factors: residual stream, attention heads, query-key dims, value-output dims, experts, …"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from permgraph.algebra.cells import Occurrence
from permgraph.algebra.relations import Operand, Relation, Value
from permgraph.algebra.ties import Resolution
from permgraph.rules.positions import NUMBERED
from permgraph.tracing.trace import Trace

PRIORITY = (
    "residual", "attention.heads", "attention.qk", "attention.vo", "experts", "recurrent", "conv", "feed_forward",
)  # fmt: skip
RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")
SOFTMAX = ("softmax", "_softmax", "_safe_softmax")
PASSING = frozenset(
    (
        *("add", "cat", "clamp", "clone", "contiguous", "div", "dropout", "expand", "float", "masked_fill", "mul"),
        *(
            "permute",
            "reshape",
            "slice",
            "squeeze",
            "sub",
            "tanh",
            "to",
            "transpose",
            "type_as",
            "unsqueeze",
            "view",
            "where",
        ),
        *("_to_copy", "_unsafe_view"),
    )
)
PRODUCTS = ("matmul", "bmm", "einsum", "baddbmm")


def roles(trace: Trace, resolution: Resolution) -> dict[Occurrence, str]:
    """Representative of a class -> its role; the first of PRIORITY that some operation gives it."""
    _mark_eager_attention(trace.relations)
    ancestry = _Ancestry.of(trace)
    votes: dict[Occurrence, set[str]] = {}
    known: dict[int, tuple[bool, dict[str, str]]] = {}
    for instance in resolution.instances:
        relation = instance.relation
        if id(relation) not in known:
            by_operation = dict(_by_operation(relation, ancestry))
            known[id(relation)] = _is_residual(relation, ancestry), by_operation | relation.roles
        residual, given = known[id(relation)]
        for operand in instance.operands:
            for (variable, _), occurrence in operand.items():
                role = "residual" if residual else given.get(variable)
                if role:
                    votes.setdefault(resolution.factors.find(occurrence), set()).add(role)
    return {kind: _choose(given, kind, resolution) for kind, given in votes.items()}


def residual_sums(trace: Trace) -> list[Value]:
    """The values x + f(x), in the order of the pass."""
    ancestry = _Ancestry.of(trace)
    return [relation.operands[-1].value for relation in trace.relations if _is_residual(relation, ancestry)]


def _choose(votes: set[str], kind: Occurrence, resolution: Resolution) -> str:
    if NUMBERED in votes and any(_is_stack(o, resolution) for o in resolution.factors.classes[kind]):
        votes = votes | {"experts"}
    if {"linear.in", "linear.out"} <= votes:
        votes = votes | {"feed_forward"}
    return next((role for role in PRIORITY if role in votes), "other")


def _is_stack(occurrence: Occurrence, resolution: Resolution) -> bool:
    """Whether an occurrence is the index of the matrices in a stack of weights."""
    value = resolution.layouts[occurrence.tensor].value
    return value.kind == "parameter" and occurrence.dim == 0 and len(value.shape) > 2


def _op(relation: Relation) -> str:
    return relation.source.op.removeprefix("aten.").rstrip("_")


def _by_operation(relation: Relation, ancestry: _Ancestry) -> Iterator[tuple[str, str]]:
    op = _op(relation)
    if op == "linear":
        yield from (("o", "linear.out"), ("i", "linear.in"))
    elif op.startswith("conv"):
        yield from (("o", "conv"), ("g", "conv"))
    elif op.removesuffix("_cell") in RECURRENT:
        yield from (("h", "recurrent"), ("p", "recurrent"))
    elif op in ("addmm", "mm") or (op in ("matmul", "bmm") and _has_weight(relation, ancestry)):
        yield from (("n", "linear.out"), ("k", "linear.in"))


def _has_weight(relation: Relation, ancestry: _Ancestry) -> bool:
    return len(relation.operands) > 1 and ancestry.is_weight(relation.operands[1].value)


@dataclass(frozen=True)
class _Ancestry:
    """For each tensor the set of tensors that it is computed from, as a bit set."""

    bit: dict[str, int]
    reach: dict[str, int]
    parameters: int
    inputs: int

    @classmethod
    def of(cls, trace: Trace) -> _Ancestry:
        bit = {name: 1 << k for k, name in enumerate(trace.values)}
        reach: dict[str, int] = {}
        for relation in trace.relations:
            names = [operand.value.name for operand in relation.operands]
            made = [name for name in names if name in (relation.made or ())]
            # A relation names a slice before the tensor that it is cut from.
            outputs = made if 0 < len(made) < len(names) else names[-1:]
            sources = [name for name in names if name not in outputs]
            for output in outputs:
                for name in sources:
                    reach[output] = reach.get(output, 0) | bit[name] | reach.get(name, 0)
        parameters = sum(bit[name] for name, value in trace.values.items() if value.kind == "parameter")
        given = sum(bit[name] for name, value in trace.values.items() if value.kind == "input")
        return cls(bit, reach, parameters, given)

    def is_weight(self, value: Value) -> bool:
        """Whether a tensor is computed from parameters without any input."""
        return value.uses_parameters and not (self.reach.get(value.name, 0) | self.bit[value.name]) & self.inputs

    def is_branch(self, x: str, y: str) -> bool:
        """Whether y = f(x) with parameters in f that x does not depend on."""
        from_x, from_y = self.reach.get(x, 0), self.reach.get(y, 0)
        return bool(from_y & self.bit[x]) and bool(from_y & ~from_x & self.parameters)


def _is_residual(relation: Relation, ancestry: _Ancestry) -> bool:
    """Whether this is x + f(x) with an f that has parameters of its own."""
    if _op(relation) != "add" or len(relation.operands) != 3:
        return False
    a, b = (operand.value for operand in relation.operands[:2])
    if a.shape != b.shape or not (_is_computed(a) and _is_computed(b)):
        return False
    return ancestry.is_branch(a.name, b.name) or ancestry.is_branch(b.name, a.name)


def _is_computed(value: Value) -> bool:
    return value.kind == "activation" and value.uses_parameters


def _mark_eager_attention(relations: Sequence[Relation]) -> None:
    """Give roles to the two products around the softmax of an attention that is written out."""
    scores: set[str] = set()
    for relation in reversed(relations):
        inputs, output = _ends(relation)
        if _op(relation) in PRODUCTS and output in scores:
            _mark(relation, "attention.qk", relation.contracted)
        elif _op(relation) in SOFTMAX or (output in scores and _op(relation) in PASSING):
            scores.update(value.name for value in inputs if _is_computed(value))
    weights: set[str] = set()
    for relation in relations:
        inputs, output = _ends(relation)
        read = [value.name in weights for value in inputs]
        if _op(relation) in SOFTMAX or (_op(relation) in PASSING and any(read)):
            weights.add(output)
        elif _op(relation) in PRODUCTS and read in ([True, False], [False, True]):
            mixing, mixed = (_names(relation.operands[read.index(is_weight)]) for is_weight in (True, False))
            _mark(relation, "attention.vo", mixed - mixing)


def _ends(relation: Relation) -> tuple[list[Value], str]:
    values = [operand.value for operand in relation.operands]
    return values[:-1], values[-1].name


def _mark(relation: Relation, role: str, variables: Iterable[str]) -> None:
    """Give a role to `variables`, and the role of heads to the variables that all operands share."""
    shared = set.intersection(*(_names(operand) for operand in relation.operands))
    relation.roles.update(dict.fromkeys(shared, "attention.heads"))
    relation.roles.update(dict.fromkeys(variables, role))


def _names(operand: Operand) -> set[str]:
    return {atom.variable for dim in operand.dims for atom in dim}
