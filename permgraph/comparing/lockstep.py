"""The one loop that runs models together: each operation runs in all models before the next one does in any."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor, fx

from permgraph.comparing.inside import inside_of
from permgraph.comparing.layers import TRANSPOSES
from permgraph.errors import CalibrationError
from permgraph.tracing.program import op_name, source_of
from permgraph.tracing.run import Runner
from permgraph.tracing.values import bound_arguments
from permgraph.wording import described


@dataclass(frozen=True)
class Run:
    """One model on one batch: inputs as `bind` gives them, and the masks of their padding by node."""

    runner: Runner
    inputs: Mapping[str, Any]
    masks: Mapping[str, Tensor]


@dataclass(frozen=True)
class Stop:
    """A run that stopped at a node, and the mask of the padding there."""

    runner: Runner
    node: fx.Node
    mask: Tensor | None

    @property
    def value(self) -> Tensor:
        """The value of the node."""
        value: Tensor = self.runner.env[self.node]
        return value

    def at(self, inside: str) -> Tensor:
        """The value of the node, or of the tensor with this label inside it."""
        return self._inside[inside] if inside else self.value

    @cached_property
    def _inside(self) -> dict[str, Tensor]:
        env = self.runner.env
        given = bound_arguments(self.node, lambda argument: fx.node.map_arg(argument, env.__getitem__))
        return inside_of(op_name(self.node.target), given, env[self.node][0])

    def input(self, name: str) -> Tensor:
        """The value of one of the node's inputs."""
        value: Tensor = next(self.runner.env[node] for node in self.node.all_input_nodes if node.name == name)
        return value

    def replace(self, value: Tensor) -> None:
        """Continue with this value instead."""
        self.runner.env[self.node] = value

    def again(self) -> None:
        """Run the node again, with the present parameters."""
        for place in self.node.all_input_nodes:
            self._refresh(place)
        self.replace(self.runner.run_node(self.node))

    def _refresh(self, place: fx.Node) -> None:
        feed = self.runner.program.feeds.get(place.name)
        if feed is not None and feed.kind != "input":
            self.runner.env[place] = self.runner.run_node(place)
        elif op_name(place.target) in TRANSPOSES and place.all_input_nodes[0].op == "placeholder":
            self._refresh(place.all_input_nodes[0])
            self.runner.env[place] = self.runner.run_node(place)


def lockstep(runs: Sequence[Run], wanted: Container[str]) -> Iterator[tuple[str, tuple[Stop, ...]]]:
    """(node, a stop in each run) for the nodes wanted, in the order of the graph.

    No run continues before all have stopped, so changes at the stops affect all later operations; the programs have the
    same nodes. Memory: the live activations of all runs.
    """
    steps = [_computed(run) for run in runs]
    for here in zip(*steps, strict=True):
        name = here[0][0].name
        if name in wanted:
            yield (
                name,
                tuple(Stop(run.runner, node, run.masks.get(name)) for run, (node, _) in zip(runs, here, strict=True)),
            )


def _computed(run: Run) -> Iterator[tuple[fx.Node, Any]]:
    """The steps of a run. Raises CalibrationError if the model cannot compute with a batch."""
    try:
        yield from run.runner.steps(run.inputs)
    except RuntimeError as error:
        shapes = ", ".join(f"{tuple(x.shape)} {x.dtype}" for x in run.inputs.values() if isinstance(x, Tensor))
        raise CalibrationError(
            f"the model cannot compute {source_of(run.runner.current)} on a batch of {shapes}: {described(error)}; "
            "give batches of the dtypes and shapes that it takes"
        ) from error
