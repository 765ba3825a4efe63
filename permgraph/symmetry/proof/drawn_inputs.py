"""Other values for the inputs that were given: what an example of zeros or of one token hides, these show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from permgraph.tracing.program import Program, op_name

LARGE = 1e4  # in a mask that is added, or more
INDEXED = {"aten.embedding": 1, "aten.embedding_bag": 1, "aten.index": 1, "aten.index_select": 2}
"""Operations that pick rows of a table, and which argument has their numbers."""
COUNTED = ("aten.one_hot",)
"""Operations that take numbers below their second argument."""
PASSED_ON = (
    "aten._to_copy",
    "aten.alias",
    "aten.clone",
    "aten.contiguous",
    "aten.detach",
    "aten.expand",
    "aten.flatten",
    "aten.permute",
    "aten.reshape",
    "aten.slice",
    "aten.squeeze",
    "aten.to",
    "aten.transpose",
    "aten.unsqueeze",
    "aten.view",
)
"""Operations that leave numbers as they are."""
COMPARED = ("aten.eq", "aten.ne")


def drawn_inputs(program: Program, inputs: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """The same inputs, by their names in the graph, with values that are drawn anew.

    Real numbers are normal at the scale of the example (1 if that is zero), and positive if the example has no negative
    number. Integers that index rows of a table are drawn from the range of the example, or from all rows if the example
    has only one value. Values that the program compares with a constant, such as the padding token, are kept, and no
    other value becomes one of them. Masks (booleans, zeros and ones, or very large numbers) and all other integers are
    kept.
    """
    generator = torch.Generator().manual_seed(seed)
    return {name: _drawn(program, name, value, generator) for name, value in inputs.items()}


def places_drawn(program: Program, before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """The places in (args, kwargs) of the inputs that differ."""
    return tuple(program.feeds[name].name for name, value in before.items() if value is not after[name])


def _drawn(program: Program, name: str, value: Any, generator: torch.Generator) -> Any:
    """A tensor of other values, or `value` itself if it must be kept."""
    if not isinstance(value, Tensor) or not value.numel():
        return value
    if value.is_floating_point() or value.is_complex():
        return value if _is_mask(value) else _normal(value, generator)
    place = next(node for node in program.graph.graph.nodes if node.op == "placeholder" and node.name == name)
    rows = [size for size in map(_rows, _used(place)) if size]
    return _numbers(value, place, min(rows), generator) if rows else value


def _is_mask(value: Tensor) -> bool:
    """Whether a tensor has both zeros and ones and nothing else, or a number as large as only masks have."""
    if value.is_complex():
        return False
    both = bool((value == 0).any()) and bool((value == 1).any())
    return (both and bool(((value == 0) | (value == 1)).all())) or not bool((value.abs() < LARGE).all())


def _normal(value: Tensor, generator: torch.Generator) -> Tensor:
    scale = value.abs().double().square().mean().sqrt().item() or 1.0
    dtype = torch.complex128 if value.is_complex() else torch.float64
    normal = scale * torch.randn(value.shape, generator=generator, dtype=dtype, device="cpu")
    positive = not value.is_complex() and bool((value >= 0).all()) and bool((value > 0).any())
    return (normal.abs() if positive else normal).to(value.device, value.dtype)


def _numbers(value: Tensor, place: fx.Node, rows: int, generator: torch.Generator) -> Tensor:
    """Row numbers for a table of `rows` rows, other than those that the program compares with a constant."""
    compared = torch.tensor([number for user in _used(place) for number in _compared(user)], device=value.device)
    stays = torch.isin(value, compared)
    free = value[~stays]
    several = free.numel() and bool(free.min() < free.max())
    low, high = (int(free.min()), int(free.max()) + 1) if several else (0, rows)
    drawn = torch.randint(low, high, value.shape, generator=generator, device="cpu").to(value)
    return torch.where(stays | torch.isin(drawn, compared), value, drawn)


def _used(node: fx.Node) -> Iterator[tuple[fx.Node, fx.Node]]:
    """(the numbers, what uses them), wherever they are the same but for their shape."""
    for user in node.users:
        yield node, user
        if op_name(user.target) in PASSED_ON:
            yield from _used(user)


def _rows(use: tuple[fx.Node, fx.Node]) -> int:
    """The number of rows, or classes, that the numbers index in this use; 0 if they index nothing."""
    numbers, user = use
    if op_name(user.target) in COUNTED:
        return int(user.args[1]) if len(user.args) > 1 and isinstance(user.args[1], int) else 0
    place = INDEXED.get(op_name(user.target))
    if place is None or len(user.args) <= place:
        return 0
    table, index = user.args[0], user.args[place]
    picks = (index[:1] if isinstance(index, list | tuple) else [index]) == [numbers]
    dim = user.args[1] if place == 2 else 0
    return int(table.meta["val"].shape[0]) if picks and dim == 0 and isinstance(table, fx.Node) else 0


def _compared(use: tuple[fx.Node, fx.Node]) -> list[int]:
    _, user = use
    if op_name(user.target) not in COMPARED:
        return []
    return [leaf for leaf in pytree.tree_leaves(user.args) if isinstance(leaf, int)]
