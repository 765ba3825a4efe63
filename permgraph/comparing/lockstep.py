"""All batches, of one model or of several, advance together, one operation at a time."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx

from permgraph.comparing.calibration import Calibration
from permgraph.comparing.layers import TRANSPOSES
from permgraph.tracing.capture import op_name
from permgraph.tracing.run import Runner


@dataclass(frozen=True)
class Stop:
    """A batch that has come to a node in one model, and the mask of its padding."""

    runner: Runner
    node: fx.Node
    mask: Tensor | None

    @property
    def value(self) -> Tensor:
        """What the node gave."""
        value: Tensor = self.runner.env[self.node]
        return value

    def input(self, name: str) -> Tensor:
        """What one of the node's inputs gave."""
        value: Tensor = next(self.runner.env[node] for node in self.node.all_input_nodes if node.name == name)
        return value

    def replace(self, value: Tensor) -> None:
        """Go on with this value instead."""
        self.runner.env[self.node] = value

    def again(self) -> None:
        """Run the node once more, with parameters as they are now."""
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


def together(
    calibration: Calibration, states: Sequence[Mapping[str, Tensor]], wanted: Container[str], stage: str
) -> Iterator[tuple[str, list[tuple[Stop, ...]]]]:
    """At each node wanted, for each batch a stop in each of the models with these weights, before any goes on.

    What is done to the states and at the stops holds for what follows. Memory: all live activations of all batches.
    """
    steps: list[list[Iterator[tuple[fx.Node, Any]]]] = []
    runs: list[tuple[list[Runner], Mapping[str, Tensor]]] = []
    for program, inputs, masks in calibration.inputs(stage):
        runners = [calibration.runner(program, state) for state in states]
        runs.append((runners, masks))
        steps.append([runner.steps(inputs) for runner in runners])
    while True:
        here = [[next(step, (None, None))[0] for step in one] for one in steps]
        if not here or here[0][0] is None:
            return
        if (name := here[0][0].name) in wanted:
            stops = [
                tuple(
                    Stop(runner, node, masks.get(name))
                    for runner, node in zip(runners, nodes, strict=True)
                    if node is not None
                )
                for (runners, masks), nodes in zip(runs, here, strict=True)
            ]
            yield name, stops
