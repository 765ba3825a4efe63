"""Runs a program at random, generic parameters in float64, moved by elements of a group."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from permgraph.errors import VerificationError
from permgraph.symmetry.elements.permutations import Permutations
from permgraph.symmetry.specification.spec import PermutationSpec
from permgraph.tracing.by_rows import by_rows
from permgraph.tracing.program import Program, source_of
from permgraph.tracing.run import Runner
from permgraph.wording import described

Change = Callable[[str, Tensor], Tensor]
"""State-dict key and tensor -> the tensor to compute with."""
JITTER = 2.0**-50
NOISES = (0.6, 1.2, 3.0)
"""The noise of parameters, in units of 1 / sqrt(fan-in). With the first, a layer adds less to a residual stream than
the stream has, so that the positions of a deep encoder stay different. The others are tried for groups without a
visible
effect: with the second, a chain of many layers keeps its signal, with the third a chain of sigmoids does."""


FAILURES = (RuntimeError, TypeError, ValueError, IndexError)
"""What operations raise for values or dtypes that they do not take."""


@dataclass(frozen=True)
class Trial:
    """A program and its example inputs, run at the generic parameters of any seed, with `noise` as in `generic`."""

    program: Program
    spec: PermutationSpec
    state: Mapping[str, Tensor]
    inputs: Mapping[str, Any]
    noise: float = NOISES[0]

    def outputs(self, seed: int, change: Change | None = None) -> list[Any]:
        """Output leaves in float64, at the parameters of a seed, changed by `change` if it is given."""
        return self.side_by_side(seed, [change])[0]

    def side_by_side(self, seed: int, changes: Sequence[Change | None]) -> list[list[Any]]:
        """The same for several changes, operation by operation, so that each parameter is made once for all.

        Raises VerificationError if an operation fails in float64, and for an output without any finite element.
        """
        last: list[tuple[str, Tensor]] = []

        def parameter(name: str, rows: Tensor | None) -> Tensor:
            if rows is not None:
                return self.parameter(name, seed, rows)
            if not last or last[0][0] != name:
                last[:] = [(name, self.parameter(name, seed))]
            return last[0][1]

        def changed(change: Change | None, name: str, rows: Tensor | None = None) -> Tensor:
            return parameter(name, rows) if change is None else change(name, parameter(name, rows))

        parameters = [functools.partial(changed, change) for change in changes]
        found = self.run(*(Runner(self.program, p, torch.float64, seed, by_rows=self.by_rows) for p in parameters))
        for outputs in found:
            for leaf, (name, _) in zip(outputs, self.spec.output_layouts, strict=True):
                if isinstance(leaf, Tensor) and leaf.numel() and not torch.isfinite(leaf).any():
                    raise VerificationError(f"the output {name} is not finite anywhere: check the example inputs")
        return found

    @functools.cached_property
    def by_rows(self) -> frozenset[str]:
        """Names of the large matrices that are made a few rows at a time, as no group moves their rows."""
        moved = (name for name, layout in self.spec.layouts.items() if any(cell.touches({0}) for cell in layout.cells))
        return by_rows(self.program).difference(moved, self.spec.held)

    def parameter(self, name: str, seed: int, rows: Tensor | None = None) -> Tensor:
        """A parameter or buffer in float64, or these rows of one."""
        tensor = generic(name, self.state[name], seed, self.noise, rows)
        return tensor.flatten()[:1].abs().add(0.1).expand_as(tensor) if name in self.spec.held else tensor

    def moved(self, element: Permutations) -> Change:
        """The change that an element makes."""
        return functools.partial(self.spec.apply_one, element.tables)

    def jittered(self, number: int) -> Change:
        """A change of the last bits, alternating along the last dimension; a different one for each number."""

        def change(name: str, tensor: Tensor) -> Tensor:
            if not tensor.is_floating_point() or name in self.spec.held:
                return tensor
            generator = torch.Generator().manual_seed(number)
            normal = torch.randn(tensor.shape[-1:], generator=generator, dtype=torch.float64, device="cpu")
            return tensor * (1 + JITTER * normal.to(tensor.device))

        return change

    def moved_back(self, element: Permutations, outputs: list[Any]) -> list[Any]:
        """Outputs of the moved program, moved back to the order of the unmoved program."""
        if not any(layout is not None and layout.groups for _, layout in self.spec.output_layouts):
            return outputs
        tables = self.spec.invert(element).tables
        return [
            layout.apply(tables, leaf) if layout is not None else leaf
            for leaf, (_, layout) in zip(outputs, self.spec.output_layouts, strict=True)
        ]

    def run(self, *runners: Runner) -> list[list[Any]]:
        """The output leaves of each, in step. Raises VerificationError, naming the operation, where one fails."""
        found: list[list[Any]] = []
        try:
            if any(runner.nests for runner in runners):
                return [runner.outputs(self.inputs) for runner in runners]
            for together in zip(*(runner.steps(self.inputs) for runner in runners), strict=True):
                if together[0][0].op == "output":
                    found = [list(value) for _, value in together]
        except FAILURES as error:
            raise not_in_float64(runners[0], error) from error
        return found


def not_in_float64(runner: Runner, error: Exception) -> VerificationError:
    """The error for a program that stopped in float64, naming the operation."""
    return VerificationError(
        f"{source_of(runner.current)} cannot be computed in float64, as the proof does: {described(error)}; leave this "
        "operation out of the model to verify the rest"
    )


def literals(program: Program) -> set[float]:
    """The numbers in a program that are arguments, and as constants of one element."""
    nodes = [leaf for node in program.graph.graph.nodes for leaf in pytree.tree_leaves((node.args, node.kwargs))]
    scalars = [x.item() for x in program.constants.values() if x.numel() == 1 and not x.is_meta and not x.is_complex()]
    return {float(x) for x in [*nodes, *scalars] if isinstance(x, int | float)}


def generic(name: str, tensor: Tensor, seed: int, noise: float, rows: Tensor | None = None) -> Tensor:
    """Generic parameters in float64, without the zeros, ones and symmetries of an initialisation; or some rows of them.

    A matrix gets noise of standard deviation noise / sqrt(fan-in) added. A positive vector (a scale, a variance) is
    multiplied by positive numbers; any other vector gets noise of standard deviation 0.1 added.
    """
    if not tensor.is_floating_point():
        return tensor
    device = torch.device("cpu") if tensor.is_meta else tensor.device
    generator = torch.Generator().manual_seed((zlib.crc32(name.encode()) + 7919 * seed) % 2**63)
    normal = [
        torch.randn(size, generator=generator, dtype=torch.float64, device="cpu").to(device) for size in tensor.shape
    ]
    if rows is not None:
        normal[0], tensor = normal[0][rows], tensor[rows.to(tensor.device)]
    if tensor.dim() > 1:
        drawn, deviation = _uniform(normal), noise * (3 / max(prod(tensor.shape[1:]), 1)) ** 0.5
        return drawn.mul_(deviation) if tensor.is_meta else torch.add(tensor, drawn, alpha=deviation, out=drawn)
    values = torch.zeros(tensor.shape, dtype=torch.float64, device="cpu") if tensor.is_meta else tensor.double()
    drawn = normal[0] if normal else torch.randn((), generator=generator, dtype=torch.float64, device="cpu").to(device)
    if tensor.numel() and bool((values > 0).all()):
        return values * (1 + drawn).abs() + 0.1
    return values + 0.1 * drawn


def _uniform(vectors: Sequence[Tensor]) -> Tensor:
    """The fractional part of 1000 times the outer product of vectors, mapped to between -1 and 1.

    Here it serves as well as independent numbers, and is faster to make.
    """
    product = functools.reduce(lambda left, right: left.unsqueeze(-1) * right, [1000 * vectors[0], *vectors[1:]])
    return product.frac_()
