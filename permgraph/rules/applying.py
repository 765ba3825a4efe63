"""Finds the rule of an operation, applies it, and pins what it leaves unsaid.

A rule answers for every argument of the operation's schema: it reads it, ignores it by name, or leaves it at its
default. It answers for every tensor that goes in and for every result that is used: each is in a relation. An
operation of which this does not hold pins what it touches and says why, so that a form that nobody thought of when the
rule was written costs symmetries and never correctness.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch

from permgraph.algebra.relations import Value
from permgraph.errors import RuleError
from permgraph.rules.elementwise import pointwise
from permgraph.rules.registry import EVERY_SCALAR, IGNORED, RULES, Call, Rule
from permgraph.wording import described

STORAGE = ("device", "dtype", "layout", "memory_format", "non_blocking", "out_dtype", "pin_memory")
"""Arguments of any operation that say how numbers are stored."""


def find_rule(target: Any, op: str) -> tuple[Rule, frozenset[str]] | None:
    """The rule of an operation and what it ignores: its own, that of its functional form, or that of PyTorch's tag."""
    functional = op.removesuffix("_") if not op.endswith("__") else op
    for name in (op, functional):
        if name in RULES:
            return RULES[name], IGNORED.get(name, frozenset())
    tags = getattr(target, "tags", ())
    if torch.Tag.pointwise in tags and torch.Tag.nondeterministic_seeded not in tags:
        return pointwise, frozenset({EVERY_SCALAR})
    return None


def apply_rule(rule: Rule, call: Call, target: Any, ignored: frozenset[str]) -> None:
    """Apply a rule, and pin everything where the call has something that it does not answer for.

    Raises RuleError, naming rule, operation and file, where the rule itself fails.
    """
    try:
        rule(call)
    except Exception as error:  # whatever the code of a rule raises
        where = f"{inspect.getsourcefile(rule)}:{_line(rule, error)}"
        raise RuleError(
            f"the rule {rule.__qualname__} for {call.source} fails with {described(error)} at {where}: report it to "
            f"those who wrote it; until it is mended, del permgraph.rules.RULES[{call.source.op!r}] pins the operation"
        ) from error
    unsaid = next(_unsaid(call, target, ignored), "")
    if unsaid:
        call.pin_all(unsaid)


def _line(rule: Rule, error: Exception) -> int:
    """The last line of the rule's own file that the error went through."""
    trace, found = error.__traceback__, rule.__code__.co_firstlineno
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == rule.__code__.co_filename:
            found = trace.tb_lineno
        trace = trace.tb_next
    return found


def _unsaid(call: Call, target: Any, ignored: frozenset[str]) -> Iterator[str]:
    """Why the rule does not answer for this call: arguments, tensors and results that it says nothing of."""
    for name, default in _defaults(target):
        value = call.arguments.get(name)
        tensors = [item for item in _items(value) if isinstance(item, Value)]
        silent = name in ignored or name in STORAGE or (EVERY_SCALAR in ignored and not tensors)
        if not (silent or tensors or name in call.read or _equal(value, default)):
            yield f"the rule for {call.source.op} does not know the argument {name}={value!r}"
        for tensor in tensors if name not in ignored else ():
            if not (_is_related(call, tensor) or 0 in tensor.shape or (name in call.read and tensor.data is not None)):
                yield f"the rule for {call.source.op} says nothing of the tensor {name}"
    for k, (out, used) in enumerate(zip(call.outs, call.used, strict=False)):
        if used and not _is_related(call, out) and 0 not in out.shape:
            yield f"the rule for {call.source.op} says nothing of result {k}"


def _defaults(target: Any) -> Iterator[tuple[str, Any]]:
    """The arguments of the schema with their defaults; a tensor may be left out, a number without default not."""
    for argument in target._schema.arguments:
        if not argument.is_out:
            none = None if "Tensor" in str(argument.type) else inspect.Parameter.empty
            yield argument.name, argument.default_value if argument.has_default_value() else none


def _items(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _equal(value: Any, default: Any) -> bool:
    """Whether an argument has its default; one number means as many equal ones as there are axes."""
    if default is inspect.Parameter.empty:
        return False
    if isinstance(value, list | tuple) or isinstance(default, list | tuple):
        mine, theirs = _items(value), _items(default)
        return mine == theirs or (len(set(theirs)) == 1 and set(mine) == set(theirs))
    return bool(value == default)


def _is_related(call: Call, value: Value) -> bool:
    return any(operand.value is value for relation in call.relations for operand in relation.operands)
