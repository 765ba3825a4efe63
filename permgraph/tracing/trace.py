"""Walks a traced graph and applies the rule of every operation: a program becomes values and relations."""

from __future__ import annotations

import operator
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from permgraph.algebra.contractions import contract_summed_products
from permgraph.algebra.kinds import Kind
from permgraph.algebra.laws import SAME
from permgraph.algebra.notation import relate
from permgraph.algebra.relations import Relation, Source, Value
from permgraph.errors import SpecMismatchError
from permgraph.rules import Call
from permgraph.rules.applying import apply_rule, find_rule
from permgraph.rules.installed import installed_rules, problems
from permgraph.rules.registry import letters
from permgraph.tracing.memory import Writes, writes, written_to
from permgraph.tracing.program import Program, op_name, source_of
from permgraph.tracing.values import (
    READS_SIZES,
    bound_arguments,
    has_symbols,
    known_integers,
    largest_kind,
    stand_in,
    uniform_dims_of,
    used_results,
    value_of_result,
    values_in,
)
from permgraph.wording import near

DATA_ONLY = "computed from the inputs alone"
USED_AS_NUMBER = "the number of a unit is used"
NUMBERED_OUTPUT = "an output of the model has numbers of units"
CHECK = "aten._assert_tensor_metadata"
FIXED_OUTPUT = "an output of the model, held fixed"
UNREACHED = "the forward pass does not reach it, and no tie by name names this axis"


@dataclass
class Trace:
    """All tensors of a forward pass with their axes, and the relations between them.

    `values` by name: state-dict keys for parameters and buffers, node names for the rest. `outputs` are the values
    of the output leaves, None for one that is not a tensor. `ends` are the names of all tensors that remain after the
    pass: its outputs, and the parameters, buffers and inputs that it writes to.
    """

    values: dict[str, Value] = field(default_factory=dict)
    relations: list[Relation] = field(default_factory=list)
    outputs: list[Value | None] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)


def trace(program: Program, *, outputs: str = "fixed", tie: Mapping[tuple[str, int], tuple[str, int]]) -> Trace:
    """Apply the rule of every operation of `program`.

    With `outputs="fixed"` the axes of the model's outputs are pinned. `tie` joins axes of parameters by name.
    """
    installed_rules()
    walk = _Walk(program)
    for node in program.graph.graph.nodes:
        walk.visit(node)
    result = walk.result
    for value in result.outputs:
        if value is not None and value.picks is not None:
            result.relations.append(_pinned(value.picks, NUMBERED_OUTPUT, {len(value.shape)}))
        if value is not None and outputs == "fixed":
            result.relations.append(_pinned(value, FIXED_OUTPUT))
    result.ends += [value.name for value in result.outputs if value is not None]
    reached = set(result.values)
    for (name, dim), (other, other_dim) in tie.items():
        result.relations.append(_joined(walk.stored(name), dim, walk.stored(other), other_dim))
    for value in result.values.values():
        if value.name not in reached:
            moved = {dim for pair in tie.items() for name, dim in pair if program.names[name] == value.name}
            result.relations.append(_pinned(value, UNREACHED, set(range(len(value.shape))) - moved))
            result.ends.append(value.name)
    contract_summed_products(result.relations, {value.name for value in result.outputs if value is not None})
    return result


def _pinned(value: Value, why: str, dims: Collection[int] | None = None) -> Relation:
    names = letters(len(value.shape))
    chosen = names if dims is None else [names[dim] for dim in sorted(dims)]
    return relate(" ".join(names), [value], value.source, pin=dict.fromkeys(chosen, why))


def _joined(a: Value, dim: int, b: Value, other_dim: int) -> Relation:
    for value, axis in ((a, dim), (b, other_dim)):
        if not 0 <= axis < len(value.shape):
            raise SpecMismatchError(
                f"tie: {value.name} has shape {value.shape}, so no dimension {axis}; give one that it has"
            )
    if a.shape[dim] != b.shape[other_dim]:
        raise SpecMismatchError(
            f"tie: {a.name}[{dim}] has {a.shape[dim]} units, {b.name}[{other_dim}] {b.shape[other_dim]}; "
            "tie axes of one size"
        )
    left, right = letters(len(a.shape), "a"), letters(len(b.shape), "b")
    left[dim] = right[other_dim]
    pattern = f"{' '.join(left)}, {' '.join(right)}"
    return relate(pattern, [a, b], Source("tied by name"), law={left[dim]: SAME})


class _Walk:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.result = Trace()
        self.env: dict[fx.Node, Any] = {}
        self.written = written_to(program.graph.graph)

    def visit(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            self.env[node] = self._feed(node)
        elif node.op == "call_function" and node.target is operator.getitem:
            self.env[node] = self.env[node.args[0]][node.args[1]]  # type: ignore[index]
        elif node.op == "call_function":
            number = stand_in(node.meta.get("val"))
            reads = op_name(node.target) in READS_SIZES
            self.env[node] = number if reads and number is not None else self._call(node) or number
        elif node.op == "output":
            leaves = self._resolve(node.args[0])
            self.result.outputs = [leaf if isinstance(leaf, Value) else None for leaf in leaves]
        else:
            self.env[node] = None

    def stored(self, name: str) -> Value:
        """The value of a parameter or buffer, made on first use. SpecMismatchError if there is none of this name."""
        if name not in self.program.names:
            raise SpecMismatchError(f"tie: no parameter {name!r}{near(name, self.program.names)}")
        name = self.program.names[name]
        if name not in self.result.values:
            self._keep(Value.fresh(name, "parameter", self.program.shapes[name], Source(name)))
        return self.result.values[name]

    def _keep(self, value: Value) -> Value:
        self.result.values[value.name] = value
        return value

    def _feed(self, node: fx.Node) -> Value | None:
        feed = self.program.feeds[node.name]
        example = node.meta.get("val")
        if not isinstance(example, Tensor) or not node.users:
            return None
        source = Source(feed.name)
        if feed.kind in ("parameter", "buffer") and example.is_floating_point():
            value = self.stored(feed.name)
            value.kind = feed.kind
            self.result.ends += [value.name] * (node in self.written)
            return value
        if feed.kind == "input":
            value = Value.fresh(node.name, "input", example.shape, source, f"an axis of the input {feed.name}")
            value.uses_parameters = False
        else:
            name = feed.name if feed.kind == "buffer" else node.name
            value = Value.fresh(name, "constant", example.shape, source)
            value.uses_parameters = False
            if node in self.written:
                self.result.ends.append(name)
            else:
                value.data = known_integers(self.program.constants.get(feed.name))
                value.uniform = uniform_dims_of(self.program.constants.get(feed.name))
            self.result.relations.append(_pinned(value, f"the constant {feed.name}"))
        value.boolean = example.dtype == torch.bool
        value.largest = largest_kind(example)
        return self._keep(value)

    def _resolve(self, argument: Any) -> Any:
        return fx.node.map_arg(argument, lambda node: self.env[node])

    def _call(self, node: fx.Node) -> Any:
        source = source_of(node)
        examples, tree = pytree.tree_flatten(node.meta.get("val"))
        names = [node.name] if tree.is_leaf() else [f"{node.name}:{k}" for k in range(len(examples))]
        outs = [value_of_result(name, example, source) for name, example in zip(names, examples, strict=True)]
        tensors = [out for out in outs if out is not None]
        changed = writes(node)
        used = used_results(node, tree, outs, set(changed.returned.values()))
        call = Call(source, bound_arguments(node, self._resolve), tensors, used)
        self._apply(call, node, changed)
        self._write(call, changed, outs)
        self._hold_picks(node, call, is_write=bool(changed.all))
        self._finish(call, node, changed)
        return pytree.tree_unflatten(outs, tree)

    def _hold_picks(self, node: fx.Node, call: Call, *, is_write: bool) -> None:
        """Pin the units whose numbers enter an operation without a rule for them, or that are written to memory."""
        if call.source.op == CHECK:
            return
        given = [
            value for value in values_in(map(self.env.get, node.all_input_nodes)) if value.name not in call.answered
        ]
        for value in (*given, *(call.outs if is_write else ())):
            if value.picks is not None:
                call.pin(value.picks, USED_AS_NUMBER, [-1])

    def _apply(self, call: Call, node: fx.Node, changed: Writes) -> None:
        found = find_rule(node.target, call.source.op)
        if has_symbols(node):
            call.pin_all("sizes that depend on data")
        elif changed.other:
            call.pin_all("an operation that writes to its arguments")
        elif found is not None:
            apply_rule(found[0], call, node.target, found[1])
        elif self._depends(call, node, changed):
            call.pin_all(f"no rule for {call.source.op}{problems()}")
        else:
            for out in call.outs:
                call.pin(out, DATA_ONLY)

    def _write(self, call: Call, changed: Writes, outs: Sequence[Value | None]) -> None:
        """A tensor that is written to has the result from now on, and other views of its memory have a part of it."""
        for operand in changed.other:
            for value in values_in([self.env[operand]]):
                call.pin(value, "an operation that writes to its arguments")
        for operand, number in changed.returned.items():
            value, out = self.env[operand], outs[number]
            if not isinstance(value, Value) or out is None:
                continue
            if value.shape == out.shape:
                call.relate("... -> ...", value, out, law=SAME)
                continue
            for tensor in (value, *call.tensors(), out):
                call.pin(tensor, "an operation that changes the shape of its argument")
            self.env[operand] = out

    def _depends(self, call: Call, node: fx.Node, changed: Writes) -> bool:
        return node in self.written or bool(changed.all) or any(value.uses_parameters for value in call.tensors())

    def _finish(self, call: Call, node: fx.Node, changed: Writes) -> None:
        depends, written = self._depends(call, node, changed), node in self.written or bool(changed.all)
        for value in (*call.outs, *call.parts):
            value.uses_parameters = depends
        for out, uniform in zip(call.outs, call.uniform_dims(), strict=True):
            out.uniform = frozenset() if written else uniform
            out.data, out.zero = (None, False) if written else (out.data, out.zero)
            if written and not call.relations:  # a constant whose elements are equal now, and need not stay equal
                out.largest = Kind.PERMUTATION
        for value in (*call.parts, *call.outs):
            self._keep(value)
        made = {value.name for value in (*call.outs, *call.parts)}
        if written:  # reading memory may return what was written to it through another view
            shared = [self.env[operand] for operand in node.all_input_nodes if operand in self.written]
            made.update(value.name for value in values_in(shared))
        parts = {part.name for part in call.parts}
        for relation in call.relations:
            relation.made = frozenset(made)
            made -= parts.intersection(operand.value.name for operand in relation.operands)
        self.result.relations += call.relations
