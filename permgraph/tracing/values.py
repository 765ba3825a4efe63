"""Reads one node of a traced graph: its results as values, its arguments by name."""

from __future__ import annotations

import functools
import operator
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import count, islice
from math import isqrt
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from permgraph.algebra.kinds import Kind
from permgraph.algebra.relations import Source, Value
from permgraph.tracing.program import op_name

STAND_IN = 2  # for a size that nothing is known of; a tensor with such a size is pinned
FIRST_PRIME = 7919
TAKES_SIZES = ("aten.view", "aten.reshape", "aten._unsafe_view", "aten.expand")
"""Operations whose whole numbers are the sizes of their result."""
BY_MASK = "aten.index"
"""The operation with a rule whose result has as many rows as a mask has places."""
READS_SIZES = ("aten.sym_size", "aten.sym_numel")
"""Operations that read the sizes of a tensor, and no element of it."""


def known_integers(tensor: Tensor | None) -> Tensor | None:
    """The tensor if its elements are integers known while tracing, else None."""
    known = tensor is not None and not tensor.is_meta and tensor.dtype == torch.int64
    return tensor if known else None


def uniform_dims_of(tensor: Tensor | None) -> frozenset[int]:
    """The dimensions along which a constant does not change, such as those of a bias that is always zero."""
    if tensor is None or tensor.is_meta or not tensor.numel():
        return frozenset()
    return frozenset(dim for dim in range(tensor.dim()) if bool((tensor == tensor.narrow(dim, 0, 1)).all()))


def _sizes(tensor: Tensor) -> tuple[int, ...]:
    """The shape, with a stand-in for every size that depends on data."""
    found = map(stand_in, tensor.shape)
    return tuple(STAND_IN if size is None else size for size in found)


def stand_in(size: Any) -> int | None:
    """A size; for one that depends on data, as if it were a large prime of its own. None if it cannot be computed, or
    is below 0 then, as what is left of a few rows after those that a mask takes.

    A program holds for all sizes of the tensors that it makes, so for these: whatever has two different primes as its
    sizes is never taken for one axis.
    """
    if not isinstance(size, torch.SymInt):
        return int(size) if isinstance(size, int) else None
    expression = size.node.expr
    primes = {symbol: _prime(symbol.name) for symbol in expression.free_symbols}
    try:
        found = int(expression.subs(primes))
    except (TypeError, ValueError):
        return None
    return found if found >= 0 else None


@functools.cache
def _prime(symbol: str) -> int:
    """A prime for a symbol like u3 or s3; kinds of symbols are told apart by their letter."""
    kind, number = symbol.rstrip("0123456789"), symbol.lstrip("abcdefghijklmnopqrstuvwxyz_")
    primes = (n for n in count(FIRST_PRIME, 2) if all(n % divisor for divisor in range(3, isqrt(n) + 1, 2)))
    return next(islice(primes, 2 * int(number or 0) + (kind == "u"), None))


def has_symbols(node: fx.Node) -> bool:
    """Whether a number that an operation is given depends on data, or a size that no stand-in can be computed for.

    A number that is the size of the result is none: the result has it. Sizes that the operation does not have with the
    stand-ins count too: that they are equal, or a product of others, was found out by running the model.
    """
    results = pytree.tree_leaves(node.meta.get("val"))
    given = [operand.meta.get("val") for operand in node.all_input_nodes]
    if op_name(node.target) not in TAKES_SIZES and any(map(_is_symbol, [*given, *results])):
        return True
    sizes = [size for x in (*results, *given) if isinstance(x, Tensor) for size in x.shape]
    if not any(map(_is_symbol, sizes)) or op_name(node.target) == BY_MASK:
        return any(_is_symbol(size) and stand_in(size) is None for size in sizes)
    return not _has_these_sizes(node, results)


def _has_these_sizes(node: fx.Node, results: Sequence[Any]) -> bool:
    """Whether an operation on tensors of these sizes has these results."""

    def empty(operand: fx.Node) -> Any:
        value = operand.meta.get("val")
        return stood_in(value) if isinstance(value, Tensor) else stand_in(value)

    def stood_in(tensor: Tensor) -> Tensor:
        return torch.empty(_sizes(tensor), dtype=tensor.dtype, device="meta")

    arguments, keywords = fx.node.map_arg((node.args, node.kwargs), empty)
    keywords = {name: torch.device("meta") if name == "device" else value for name, value in keywords.items()}
    try:
        found = pytree.tree_leaves(node.target(*arguments, **keywords))  # type: ignore[operator]
    except Exception:  # whatever it raises of sizes that do not fit, or of values that it needs
        return False
    wanted = [_sizes(result) for result in results if isinstance(result, Tensor)]
    return wanted == [tuple(tensor.shape) for tensor in found if isinstance(tensor, Tensor)]


def _is_symbol(value: Any) -> bool:
    return isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool)


def value_of_result(name: str, example: Any, source: Source) -> Value | None:
    """The value of one result; None where it is no tensor."""
    if not isinstance(example, Tensor):
        return None
    value = Value.fresh(name, "activation", _sizes(example), source)
    value.boolean = example.dtype == torch.bool
    value.largest = largest_kind(example)
    value.counted = not any(map(_is_symbol, example.shape))
    return value


def largest_kind(example: Tensor) -> Kind:
    """The largest kind that the dtype allows: integers and booleans are only permuted."""
    return Kind.INVERTIBLE if example.is_floating_point() or example.is_complex() else Kind.PERMUTATION


def used_results(
    node: fx.Node, tree: pytree.TreeSpec, outs: Sequence[Value | None], kept: Collection[int]
) -> list[bool]:
    """For each result that is a tensor, whether something reads it; those in `kept` are read from memory."""
    if tree.is_leaf() or tree.num_children != len(outs):
        return [True] * len(outs)
    read = {user.args[1] for user in node.users if user.target is operator.getitem and user.users}
    return [k in read or k in kept for k, out in enumerate(outs) if out is not None]


def bound_arguments(node: fx.Node, resolve: Any) -> dict[str, Any]:
    """Arguments by the names in the operation's schema, defaults filled in; `out=` is no input."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return {f"arg{k}": value for k, value in enumerate(values_in(map(resolve, node.all_input_nodes)))}
    bound = {}
    for k, argument in enumerate(schema.arguments):
        if argument.is_out:
            continue
        if k < len(node.args):
            bound[argument.name] = resolve(node.args[k])
        elif argument.name in node.kwargs:
            bound[argument.name] = resolve(node.kwargs[argument.name])
        else:
            bound[argument.name] = argument.default_value if argument.has_default_value() else None
    return bound


def values_in(items: Iterable[Any]) -> Iterator[Value]:
    """The tensors among these, also in lists."""
    for item in items:
        if isinstance(item, Value):
            yield item
        elif isinstance(item, list | tuple):
            yield from values_in(item)
