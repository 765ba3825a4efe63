"""The operation judges its rule: `python -m permgraph.rules.validate [--op NAME]`.

For a small call of every operation, all of its tensors free, the rule claims a group. *Wrong*: a random element of it
changes the result. *Missed*: two indices of some axes change places, the result follows, and the group lacks that.
The exit status is 1 if any claim is wrong.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from permgraph.rules.examples import EXAMPLES, Example
from permgraph.rules.registry import RULES
from permgraph.symmetry.layout import Cell, Move
from permgraph.symmetry.parts import Index
from permgraph.symmetry.permutations import Permutations
from permgraph.symmetry.spec import PermutationSpec

TOLERANCE = 1e-9
Axis = tuple[str, int]
State = dict[str, Tensor]


@dataclass(frozen=True)
class Verdict:
    """What an operation says of its rule: seeds of elements that are wrong, and sets of axes whose swap is missed."""

    example: Example
    order: float
    wrong: tuple[int, ...]
    missed: tuple[tuple[Axis, ...], ...]


class OneCall(nn.Module):
    """A call whose floating operands are parameters p0, p1, ..."""

    def __init__(self, example: Example, seed: int = 0) -> None:
        super().__init__()
        self.example = example
        generator = torch.Generator().manual_seed(seed)
        for k, operand in enumerate(example.operands):
            if _is_free(operand):
                value = _again(operand, generator, seed) if isinstance(operand, Tensor) else operand
                if not isinstance(value, Tensor):
                    value = torch.randn(value, generator=generator, dtype=torch.float64)
                self.register_parameter(f"p{k}", nn.Parameter(value, requires_grad=False))

    def forward(self, *given: Tensor) -> Any:
        """The result of the call."""
        rest = iter(given)
        operands = [
            getattr(self, f"p{k}") if _is_free(operand) else next(rest)
            for k, operand in enumerate(self.example.operands)
        ]
        return self.example.function(*operands)

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The operands that are not parameters."""
        return tuple(o for o in self.example.operands if isinstance(o, Tensor) and not _is_free(o))

    def results(self, state: dict[str, Tensor]) -> list[Tensor]:
        """The output leaves for these parameters; what is drawn at random is drawn alike every time."""
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(0)
            copies = {name: value.clone() for name, value in state.items()}  # an operation may write to its operands
            found = torch.func.functional_call(self, copies, self.inputs)
        return [leaf for leaf in pytree.tree_leaves(found) if isinstance(leaf, Tensor)]


def _is_free(operand: tuple[int, ...] | Tensor) -> bool:
    return not isinstance(operand, Tensor) or operand.is_floating_point()


def _again(tensor: Tensor, generator: torch.Generator, seed: int) -> Tensor:
    """The tensor for seed 0; for another, its elements in another order, which stay in the operation's domain."""
    order = torch.randperm(tensor.numel(), generator=generator)
    return tensor if seed == 0 else tensor.flatten()[order].view(tensor.shape)


def judge(example: Example, trials: int = 5) -> Verdict:
    """Compare the claim of the rule with the operation."""
    call = OneCall(example).eval()
    # above this floor: the whole pipeline is needed to turn a rule into a group
    spec: PermutationSpec = import_module("permgraph.symmetry.derivation").derive(call, call.inputs, outputs="free")
    state = {name: value.detach() for name, value in call.named_parameters()}
    before = call.results(state)
    wrong = []
    for seed in range(trials):
        element = spec.sample(seed)
        expected = spec.apply_outputs(element, before)
        if not _equal(expected, call.results(spec.apply(element, state))):
            wrong.append(seed)
    return Verdict(example, spec.log10_order, tuple(wrong), tuple(_missed(call, spec, state)))


def _equal(a: Sequence[Tensor], b: Sequence[Tensor]) -> bool:
    return all(
        x.shape == y.shape and torch.allclose(_wide(x), _wide(y), TOLERANCE, TOLERANCE, equal_nan=True)
        for x, y in zip(a, b, strict=True)
    )


def _wide(x: Tensor) -> Tensor:
    return x if x.is_complex() else x.double()


def _missed(call: OneCall, spec: PermutationSpec, state: State) -> Iterator[tuple[Axis, ...]]:
    """Sets of axes, inputs then outputs, on which two indices may change places though the claim forbids it."""
    others = [state, {name: value.detach() for name, value in OneCall(call.example, seed=1).named_parameters()}]
    results = [call.results(values) for values in others]
    axes = [(name, dim) for name, value in state.items() for dim in range(value.dim())]
    outs = [(f"result {k}", dim) for k, value in enumerate(results[0]) for dim in range(value.dim())]
    shapes = {name: value.shape for name, value in state.items()}
    shapes |= {f"result {k}": value.shape for k, value in enumerate(results[0])}
    for size in sorted({shapes[name][dim] for name, dim in axes} - {1}):
        for chosen in _subsets([axis for axis in axes if shapes[axis[0]][axis[1]] == size], 1):
            for out in _subsets([axis for axis in outs if shapes[axis[0]][axis[1]] == size], 0):
                swaps = [_Swap(frozenset(chosen + out), *pair) for pair in combinations(range(size), 2)]
                if any(swap.holds(call, others, results) and not swap.is_in(spec, state, results[0]) for swap in swaps):
                    yield chosen + out


@dataclass(frozen=True)
class _Swap:
    """Positions `i` and `j` change places on some axes of operands and results."""

    axes: frozenset[Axis]
    i: int
    j: int

    def __call__(self, name: str, value: Tensor) -> Tensor:
        for dim in sorted(dim for where, dim in self.axes if where == name):
            order = list(range(value.shape[dim]))
            order[self.i], order[self.j] = self.j, self.i
            value = value.index_select(dim, torch.tensor(order))
        return value

    def holds(self, call: OneCall, states: Sequence[State], results: Sequence[list[Tensor]]) -> bool:
        """Whether the operation follows, for all of these operands."""
        return all(
            _equal(
                [self(f"result {k}", value) for k, value in enumerate(before)],
                call.results({name: self(name, value) for name, value in state.items()}),
            )
            for state, before in zip(states, results, strict=True)
        )

    def is_in(self, spec: PermutationSpec, state: State, before: Sequence[Tensor]) -> bool:
        """Whether the group has it: the only candidate is read off what it does to the position of every element."""
        labels = {name: torch.arange(value.numel()).view(value.shape) for name, value in state.items()}
        wanted = {name: self(name, value) for name, value in labels.items()}
        tables = dict(spec.identity().tables)
        for name, layout in spec.layouts.items():
            for cell in layout.cells:
                for move in cell.moves:
                    tables[move.group] = _table(tables[move.group], wanted[name].numpy(), cell, move)
        if any(np.any(np.sort(table, -1) != np.arange(table.shape[-1])) for table in tables.values()):
            return False
        element = Permutations(tables)
        moved = spec.apply(element, labels)
        after = [self(f"result {k}", value) for k, value in enumerate(before)]
        return all(torch.equal(moved[name], wanted[name]) for name in labels) and _equal(
            spec.apply_outputs(element, list(before)), after
        )


def _table(table: Index, wanted: Index, cell: Cell, move: Move) -> Index:
    """The table of a group of which one cell of a tensor shows where each element comes from."""
    here = cell.coordinates()
    grid = np.broadcast_arrays(*(cell.positions(dim, here) for dim in range(wanted.ndim)), *here)
    places, coordinates = grid[: wanted.ndim], grid[wanted.ndim :]
    sources = np.unravel_index(wanted[tuple(places)], wanted.shape)
    came = [(sources[leaf.dim] - cell.offsets[leaf.dim]) // leaf.stride % leaf.size for leaf in cell.leaves]

    def unit(values: Sequence[Index], leaves: Sequence[int]) -> Index:
        shape = [cell.leaves[k].size for k in leaves]
        return np.ravel_multi_index([values[k] for k in leaves], shape)

    found = table.copy()
    rows = tuple(unit(coordinates, key) for key in move.keys)
    found[(*rows, unit(coordinates, move.leaves))] = unit(came, move.leaves)
    return found


def _subsets(items: Sequence[Axis], least: int) -> Iterator[tuple[Axis, ...]]:
    for count in range(least, len(items) + 1):
        yield from combinations(items, count)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each claim that is wrong, then for each freedom that is missed; 1 if any is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--op", help="one operation, such as aten.linear")
    chosen = parser.parse_args(arguments).op
    examples = [example for example in EXAMPLES if chosen in (None, example.op, example.op.removeprefix("aten."))]
    verdicts = [judge(example) for example in examples]
    for verdict in verdicts:
        if verdict.wrong:
            print(f"wrong   {_call(verdict.example)}: elements {list(verdict.wrong)} change the result")
    for verdict in verdicts:
        for axes in verdict.missed:
            print(f"missed  {_call(verdict.example)}: {', '.join(f'{name}[{dim}]' for name, dim in axes)}")
    judged = {example.op for example in EXAMPLES}
    without = sorted(op for op in RULES if op not in judged)
    print(f"{len(verdicts)} calls judged; rules without an example: {', '.join(without) or 'none'}", file=sys.stderr)
    return int(any(verdict.wrong for verdict in verdicts))


def _call(example: Example) -> str:
    shapes = ", ".join(str(list(x.shape) if isinstance(x, Tensor) else list(x)) for x in example.operands)
    return f"{example.op}({shapes})"


if __name__ == "__main__":
    sys.exit(main())
