"""PyTorch's own database of calls of its operators, as examples: thousands with unusual shapes and arguments.

PyTorch tests its operators with it. It is not public, needs the packages of the `dev` extra, and changes with the
version of PyTorch.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from permgraph.errors import OptionError
from permgraph.rules.applying import find_rule
from permgraph.rules.example import Example

MOST_ELEMENTS = 4096  # of a call: larger calls show nothing more


def database() -> list[Any]:
    """The entries (`OpInfo`) that take float64. Raises OptionError without the packages that the database needs."""
    try:
        from torch.testing._internal.common_methods_invocations import op_db
    except ImportError as error:
        raise OptionError(
            f"PyTorch's database of operators needs the package {error.name}: pip install 'permgraph[dev]'"
        ) from error
    return [entry for entry in op_db if torch.float64 in entry.dtypes and "empty" not in entry.name]


def names_of(entry: Any) -> set[str]:
    """The names under which an entry may be asked for, such as `aten.add`."""
    return {f"aten.{name.replace('.', '_')}" for name in (entry.name, entry.aten_name or entry.name)} | {
        f"aten.{entry.name.rpartition('.')[2]}"
    }


def entries(op: str | None = None) -> Iterator[Any]:
    """The entries of which some name has a rule; those of one operation, if it is named."""
    for entry in database():
        names = names_of(entry)
        if (op is None or names & {op, f"aten.{op}"}) and any(_has_rule(name) for name in names):
            yield entry


def _has_rule(name: str) -> bool:
    packet = getattr(torch.ops.aten, name.removeprefix("aten."), None)
    targets = [getattr(packet, overload) for overload in packet.overloads()] if packet is not None else [None]
    return any(find_rule(target, name) for target in targets)


def calls(entry: Any, most: int | None = None) -> Iterator[Example]:
    """The sample calls of an entry, each also in place and with `out=` if possible; at most `most` samples.

    A few samples are taken from the whole list in equal steps, as neighbouring samples are similar.
    """
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        samples = list(enumerate(entry.sample_inputs("cpu", torch.float64, requires_grad=False)))
    step = 1 if most is None else max(1, -(-len(samples) // max(most, 1)))
    for number, sample in samples[::step]:
        given = (sample.input, sample.args, sample.kwargs)
        leaves = [leaf for leaf in pytree.tree_leaves(given) if isinstance(leaf, Tensor)]
        if sum(leaf.numel() for leaf in leaves) > MOST_ELEMENTS or any(leaf.layout != torch.strided for leaf in leaves):
            continue
        for form, function in _forms(entry, given):
            note = " ".join(("sample", str(number), entry.variant_test_name, form)).replace("  ", " ").strip()
            if _runs(example := _example(entry, function, given, note)):
                yield example


def _forms(entry: Any, given: tuple[Any, ...]) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The operator itself, in place, and with `out=`."""
    yield "", entry.op
    if isinstance(given[0], Tensor) and entry.inplace_variant is not None:
        yield "in place", _in_place(entry.inplace_variant)
    if entry.supports_out:
        yield "out=", _into(entry.op)


def _runs(example: Example) -> bool:
    """Whether the call has a deterministic result that consists of dense tensors."""
    with warnings.catch_warnings(), torch.no_grad(), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        try:
            operands = [operand.clone() for operand in example.operands if isinstance(operand, Tensor)]
            results = pytree.tree_leaves(example.function(*operands))
        except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError):  # a form that does not exist
            return False
    return all(isinstance(leaf, Tensor) and leaf.layout is torch.strided for leaf in results)


def _in_place(function: Callable[..., Any]) -> Callable[..., Any]:
    """The form that writes to its first argument, on a copy of it, of which a view is returned."""

    def run(first: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        copy = first.clone()
        view = copy.view_as(copy)
        function(copy, *args, **kwargs)
        return view

    return run


def _into(function: Callable[..., Any]) -> Callable[..., Any]:
    """The form with `out=`, which writes to views of existing tensors."""

    def run(*args: Any, **kwargs: Any) -> Any:
        results, tree = pytree.tree_flatten(function(*args, **kwargs))
        whole = [torch.zeros_like(result) for result in results]
        function(*args, **kwargs, out=pytree.tree_unflatten([one.view_as(one) for one in whole], tree))
        return pytree.tree_unflatten(whole, tree)

    return run


def _example(entry: Any, function: Callable[..., Any], given: Any, note: str) -> Example:
    leaves, tree = pytree.tree_flatten(given)
    places = [k for k, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]

    def run(*operands: Tensor) -> Any:
        filled = list(leaves)
        for place, operand in zip(places, operands, strict=True):
            filled[place] = operand
        first, args, kwargs = pytree.tree_unflatten(filled, tree)
        return function(first, *args, **kwargs)

    operands = tuple(leaves[place].detach().clone() for place in places)
    return Example(f"aten.{entry.aten_name or entry.name}", run, operands, note)
