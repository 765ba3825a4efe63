"""Running statistics of BatchNorm, estimated anew for a merged model."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx

from permgraph.comparing.calibration import Calibration
from permgraph.comparing.layers import bound
from permgraph.errors import PermgraphWarning
from permgraph.merging.registry import correction
from permgraph.merging.shares import Shares
from permgraph.tracing.program import Program, op_name
from permgraph.tracing.run import Parameters, Runner

OPS = ("aten.batch_norm",)
NOTHING = "the models have no BatchNorm, so batch_norm changed nothing"


@correction("batch_norm", reference="arXiv 1803.05407")
def re_estimate(calibration: Calibration, merged: Mapping[str, Tensor], shares: Shares) -> dict[str, Tensor]:
    """The running mean and variance of every BatchNorm as the equal-weight mean over batches, each normed by its own.

    What PyTorch computes in training mode with `momentum=None`, one pass over the data, all layers at once; weights
    stay. For a model without BatchNorm nothing is returned, with a PermgraphWarning.
    """
    statistics = {
        name: torch.zeros_like(merged[name], dtype=torch.promote_types(merged[name].dtype, torch.float32))
        for _, names in running_statistics(calibration.program)
        for name in names
    }
    if statistics:
        for number, (program, inputs, _) in enumerate(calibration.inputs("batch norm"), 1):
            for _ in TrainingNorms(program, merged.__getitem__, calibration.dtype, statistics, number).steps(inputs):
                pass
    else:
        warnings.warn(NOTHING, PermgraphWarning, stacklevel=2)
    return {name: value.to(merged[name].dtype) for name, value in statistics.items()}


def running_statistics(program: Program) -> list[tuple[fx.Node, tuple[str, str]]]:
    """Every BatchNorm of the graph with the names of its running mean and variance, where these are buffers."""
    found = []
    for node in program.graph.graph.nodes:
        if node.op == "call_function" and op_name(node.target) in OPS:
            places = [bound(node)[name] for name in ("running_mean", "running_var")]
            feeds = [program.feeds.get(place.name) if isinstance(place, fx.Node) else None for place in places]
            names = [feed.name for feed in feeds if feed is not None and feed.kind == "buffer"]
            if len(names) == 2:
                found.append((node, (names[0], names[1])))
    return found


class TrainingNorms(Runner):
    """Runs a program with every BatchNorm in training mode, as the `number`th batch of a mean over batches."""

    def __init__(
        self,
        program: Program,
        parameters: Parameters,
        dtype: torch.dtype | None,
        statistics: Mapping[str, Tensor],
        number: int,
    ) -> None:
        super().__init__(program, parameters, dtype)
        self.statistics, self.number = statistics, number
        self.norms = dict(running_statistics(program))

    def run_node(self, n: fx.Node) -> Any:
        """One operation; a BatchNorm updates its statistics."""
        if n not in self.norms:
            return super().run_node(n)
        given = fx.node.map_arg(bound(n), lambda node: self.env[node])
        mean, variance = (self.statistics[name] for name in self.norms[n])
        x = given["input"]
        return torch.nn.functional.batch_norm(
            x, mean, variance, given["weight"], given["bias"], True, 1 / self.number, given["eps"]
        )
