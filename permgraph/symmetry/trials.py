"""A program at random, generic parameters in float64, moved by elements of a group."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from permgraph.errors import VerificationError, described
from permgraph.symmetry.permutations import Permutations
from permgraph.symmetry.spec import PermutationSpec
from permgraph.tracing.capture import Program, source_of
from permgraph.tracing.run import Runner

JITTER = 2.0**-50


@dataclass(frozen=True)
class Trial:
    """A program and its example inputs, run at the generic parameters of any seed."""

    program: Program
    spec: PermutationSpec
    state: Mapping[str, Tensor]
    inputs: Mapping[str, Any]

    def outputs(self, seed: int, element: Permutations | None = None, *, jitter: int = 0) -> list[Any]:
        """Output leaves in float64, at parameters moved by an element, or changed in their last bits, for each `jitter`
        otherwise.

        Raises VerificationError where an operation fails in float64, and for an output that is nowhere finite.
        """

        def parameters(name: str) -> Tensor:
            tensor = generic(name, self.state[name], seed)
            if name in self.spec.held:
                tensor = tensor[:1].abs().add(0.1).expand_as(tensor)
            if jitter and name not in self.spec.held:
                tensor = jittered(tensor, jitter)
            return tensor if element is None else self.spec.apply_one(element.tables, name, tensor)

        found = self._run(Runner(self.program, parameters, torch.float64, seed))
        for leaf, (name, _) in zip(found, self.spec.output_layouts, strict=True):
            if isinstance(leaf, Tensor) and leaf.numel() and not torch.isfinite(leaf).any():
                raise VerificationError(f"the output {name} is not finite anywhere: check the example inputs")
        return found

    def moved_back(self, element: Permutations, outputs: list[Any]) -> list[Any]:
        """Outputs of the moved program in the order that they have unmoved."""
        if not any(layout is not None and layout.groups for _, layout in self.spec.output_layouts):
            return outputs
        tables = self.spec.invert(element).tables
        return [
            layout.apply(tables, leaf) if layout is not None else leaf
            for leaf, (_, layout) in zip(outputs, self.spec.output_layouts, strict=True)
        ]

    def _run(self, runner: Runner) -> list[Any]:
        try:
            return runner.outputs(self.inputs)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            raise VerificationError(
                f"{source_of(runner.current)} cannot be computed in float64 at random parameters, as the proof does: "
                f"{described(error)}; leave this operation out of the model to verify the rest"
            ) from error


def literals(program: Program) -> set[float]:
    """The numbers that stand in a program as arguments, and as constants of one element."""
    nodes = [leaf for node in program.graph.graph.nodes for leaf in pytree.tree_leaves((node.args, node.kwargs))]
    scalars = [x.item() for x in program.constants.values() if x.numel() == 1 and not x.is_meta and not x.is_complex()]
    return {float(x) for x in [*nodes, *scalars] if isinstance(x, int | float)}


def jittered(tensor: Tensor, seed: int) -> Tensor:
    """Parameters that differ from these in their last bits, from one unit of the last dimension to the next."""
    if not tensor.is_floating_point():
        return tensor
    signs = torch.randn(tensor.shape[-1:], generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return tensor * (1 + JITTER * signs.to(tensor.device))


def generic(name: str, tensor: Tensor, seed: int) -> Tensor:
    """Parameters near `tensor` in float64 that no symmetry of an initialisation hides in: no zeros, no ones.

    To a matrix is added, at the scale 1.5 / sqrt(fan-in), the outer product of a normal vector for each dimension,
    which is as good as independent noise at telling units apart and far cheaper. A vector becomes normal around 0.5;
    one without entries below or at zero (a variance, a scale) stays positive.
    """
    if not tensor.is_floating_point():
        return tensor
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()) + 7919 * seed)
    device = torch.device("cpu") if tensor.is_meta else tensor.device
    vectors = [torch.randn(size, generator=generator, dtype=torch.float64).to(device) for size in tensor.shape]
    if tensor.dim() > 1:
        noise = functools.reduce(lambda left, right: left.unsqueeze(-1) * right, vectors)
        noise *= 1.5 * max(prod(tensor.shape[1:]), 1) ** -0.5
        return noise if tensor.is_meta else noise.add_(tensor)
    positive = not tensor.is_meta and tensor.numel() > 0 and bool((tensor > 0).all())
    values: Tensor = 0.5 + 0.5 * (vectors[0] if vectors else torch.ones((), dtype=torch.float64, device=device))
    return values.abs() + 0.1 if positive else values
