"""Walks a traced graph and applies the rule of every operation: a program -> values and relations."""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, fx

from permgraph.algebra.contractions import contract_summed_products
from permgraph.algebra.laws import SAME
from permgraph.algebra.relations import Relation, Source, Value, relate
from permgraph.errors import SpecMismatchError
from permgraph.rules import RULES, Call
from permgraph.rules.elementwise import pointwise
from permgraph.rules.installed import installed_rules, problems
from permgraph.rules.registry import Rule, letters
from permgraph.tracing.capture import Program, op_name, source_of
from permgraph.tracing.memory import written_to

DATA_ONLY = "computed from the inputs alone"
STAND_IN = 2  # for a size that depends on data
FIXED_OUTPUT = "an output of the model, held fixed"
UNREACHED = "the forward pass does not reach it, and no tie by name names this axis"


@dataclass
class Trace:
    """All tensors of a forward pass with their axes, and the relations between them.

    `values` by name: state-dict keys for parameters and buffers, node names for the rest. `outputs` are the values
    of the output leaves, None for one that is not a tensor. `ends` are the names of all tensors that the pass leaves
    behind: its outputs, and the parameters, buffers and inputs that it writes to.
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
    if outputs == "fixed":
        for value in result.outputs:
            if value is not None:
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
            self.env[node] = self._call(node)
        elif node.op == "output":
            leaves = self._resolve(node.args[0])
            self.result.outputs = [leaf if isinstance(leaf, Value) else None for leaf in leaves]
        else:
            self.env[node] = None

    def stored(self, name: str) -> Value:
        """The value of a parameter or buffer, made on first use. SpecMismatchError if there is none of this name."""
        if name not in self.program.names:
            near = get_close_matches(name, self.program.names, n=3) or [*self.program.names][:3]
            raise SpecMismatchError(f"tie: no parameter {name!r}; near: {', '.join(near)}")
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
                value.data = _integers(self.program.constants.get(feed.name))
                value.uniform = _uniform(self.program.constants.get(feed.name))
            self.result.relations.append(_pinned(value, f"the constant {feed.name}"))
        value.boolean = example.dtype == torch.bool
        return self._keep(value)

    def _resolve(self, argument: Any) -> Any:
        return fx.node.map_arg(argument, lambda node: self.env[node])

    def _call(self, node: fx.Node) -> Any:
        source = source_of(node)
        single, examples = _outputs(node)
        arguments = _bind(node, self._resolve)
        outs = [
            Value.fresh(node.name if single else f"{node.name}:{k}", "activation", _sizes(example), source)
            if isinstance(example, Tensor)
            else None
            for k, example in enumerate(examples)
        ]
        tensors = [out for out in outs if out is not None]
        if tensors:
            call = Call(source, arguments, tensors, _used(node, single, outs))
            self._apply(call, node)
        for out, example in zip(outs, examples, strict=True):
            if out is not None:
                out.boolean = example.dtype == torch.bool
                self._keep(out)
        return outs[0] if single else outs

    def _apply(self, call: Call, node: fx.Node) -> None:
        written = node in self.written
        depends = written or any(value.uses_parameters for value in call.tensors())
        found = find_rule(node.target)
        if _has_symbols(node):
            call.pin_all("sizes that depend on data")
        elif found is not None:
            _follow(found, call)
        elif depends:
            call.pin_all(f"no rule for {call.source.op}{problems()}")
        else:
            for out in call.outs:
                call.pin(out, DATA_ONLY)
        for value in (*call.outs, *call.parts):
            value.uses_parameters = depends
        for out, uniform in zip(call.outs, call.uniform_dims(), strict=True):
            out.uniform = frozenset() if written else uniform
        for part in call.parts:
            self._keep(part)
        touched = (*call.outs, *call.parts, *(call.tensors() if written else ()))
        made = frozenset(value.name for value in touched)
        for relation in call.relations:
            relation.made = made
        self.result.relations += call.relations


def _follow(rule: Rule, call: Call) -> None:
    """Apply a rule; a call in a form that the rule was not written for is pinned, and says so."""
    try:
        rule(call)
    except (IndexError, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        call.relations.clear()
        call.pin_all(f"the rule for {call.source.op} does not cover this form ({type(error).__name__}: {error})")


def _integers(tensor: Tensor | None) -> Tensor | None:
    known = tensor is not None and not tensor.is_meta and tensor.dtype == torch.int64
    return tensor if known else None


def _uniform(tensor: Tensor | None) -> frozenset[int]:
    """The dimensions along which a constant does not change, such as those of a bias that is always zero."""
    if tensor is None or tensor.is_meta or not tensor.numel():
        return frozenset()
    return frozenset(dim for dim in range(tensor.dim()) if bool((tensor == tensor.narrow(dim, 0, 1)).all()))


def find_rule(target: Any) -> Rule | None:
    """The rule of an operation: its own, that of its functional form, or the pointwise rule by PyTorch's own tag."""
    name = op_name(target)
    functional = name.removesuffix("_") if not name.endswith("__") else name
    if name in RULES or functional in RULES:
        return RULES.get(name) or RULES[functional]
    tags = getattr(target, "tags", ())
    if torch.Tag.pointwise in tags and torch.Tag.nondeterministic_seeded not in tags:
        return pointwise
    return None


def _sizes(tensor: Tensor) -> tuple[int, ...]:
    """The shape, with a stand-in for every size that depends on data; what has one is pinned."""
    return tuple(size if isinstance(size, int) else STAND_IN for size in tensor.shape)


def _has_symbols(node: fx.Node) -> bool:
    """Whether a size or a number at an operation depends on data."""
    _, results = _outputs(node)
    values = [*results, *(operand.meta.get("val") for operand in node.all_input_nodes)]
    numbers = [size for x in values for size in (x.shape if isinstance(x, Tensor) else (x,))]
    return any(isinstance(size, torch.SymInt | torch.SymFloat | torch.SymBool) for size in numbers)


def _outputs(node: fx.Node) -> tuple[bool, list[Any]]:
    """Whether the operation returns one tensor, and the example of each result."""
    example = node.meta.get("val")
    if isinstance(example, list | tuple):
        return False, list(example)
    return True, [example]


def _used(node: fx.Node, single: bool, outs: list[Value | None]) -> list[bool]:
    if single:
        return [True]
    read = {user.args[1] for user in node.users if user.target is operator.getitem and user.users}
    return [k in read for k, out in enumerate(outs) if out is not None]


def _bind(node: fx.Node, resolve: Any) -> dict[str, Any]:
    """Arguments by the names in the operation's schema, defaults filled in."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return {f"arg{k}": v for k, v in enumerate(_flat(resolve([*node.args, *node.kwargs.values()])))}
    bound = {}
    for k, argument in enumerate(schema.arguments):
        if k < len(node.args):
            bound[argument.name] = resolve(node.args[k])
        elif argument.name in node.kwargs:
            bound[argument.name] = resolve(node.kwargs[argument.name])
        else:
            bound[argument.name] = argument.default_value if argument.has_default_value() else None
    return bound


def _flat(items: Any) -> Iterator[Any]:
    for item in items:
        if isinstance(item, list | tuple):
            yield from _flat(item)
        else:
            yield item
