"""REPAIR: the mean and deviation of every unit of a merged model between those of its parents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from permgraph.comparing.calibration import Calibration
from permgraph.comparing.frames import kept_rows
from permgraph.comparing.layers import AffineLayer, find_layers
from permgraph.comparing.lockstep import Stop
from permgraph.merging.methods.batch_norm import running_statistics
from permgraph.merging.registry import correction
from permgraph.merging.shares import Shares
from permgraph.tracing.program import Program

NORM, WHOLE, SCALE = "statistics of the norm", "mean and deviation", "deviation alone: there is no bias"


@dataclass(frozen=True)
class Plan:
    """What REPAIR does at each node: a layer to rescale, or the names of the statistics of a BatchNorm to take anew.

    `said` has every linear or convolution layer and BatchNorm of the graph by its node: what is restored there, or
    why nothing is.
    """

    layers: Mapping[str, AffineLayer]
    norms: Mapping[str, tuple[str, str]]
    said: Mapping[str, str]


def plan(program: Program) -> Plan:
    """What can be folded back into the weights exactly.

    A layer with a bias takes back its mean and deviation, one without a bias only its deviation (its rows are scaled).
    A layer that only a BatchNorm with running statistics reads is left to that norm, whose statistics are taken anew.
    A layer whose weight or bias is used more than once, or computed from other parameters, is left alone.
    """
    nodes = {node.name: node for node in program.graph.graph.nodes}
    norms = {node.name: names for node, names in running_statistics(program)}
    layers = find_layers(program)
    said = dict(layers.left) | dict.fromkeys(norms, NORM)
    chosen = {}
    for layer in (use for uses in layers.found.values() for use in uses):
        if len(layers.found[layer.weight]) > 1:
            said[layer.node] = f"{layer.weight} is used more than once"
        elif [user.name for user in nodes[layer.node].users if user.name in norms] == [
            *map(str, nodes[layer.node].users)
        ]:
            said[layer.node] = "left to the norm that reads it"
        else:
            said[layer.node] = SCALE if layer.bias is None else WHOLE
            chosen[layer.node] = layer
    return Plan(chosen, norms, {name: said[name] for name in nodes if name in said})


@correction("repair", reference="arXiv 2211.08403")
def repair(calibration: Calibration, merged: Mapping[str, Tensor], shares: Shares) -> dict[str, Tensor]:
    """Each unit's mean and deviation on the data become share · A's + (1 - share) · B's.

    y ↦ s y + t with s = σ_target / σ and t = μ_target - s μ is folded into the rows and the bias of its layer, in the
    order of the graph: statistics of the merged model are taken with all earlier layers repaired. For that, all batches
    advance together, one operation at a time, so memory holds the live activations of all of them. `plan` says which
    layers; a unit that is constant in the merged model is only shifted.
    """
    todo, parents = calibration.once(_observed)
    state = dict(merged)
    wanted = {**todo.layers, **todo.norms}
    for name, batches in calibration.all_batches([state], wanted, "statistics of the merged model"):
        stops = [stop for (stop,) in batches]
        if name in todo.layers:
            _rescale(todo.layers[name], _goal(todo.layers[name], parents[name], shares), state, stops)
        else:
            _renorm(todo.norms[name], state, stops)
    names = [n for layer in todo.layers.values() for n in (layer.weight, layer.bias) if n is not None]
    return {name: state[name] for name in (*names, *(name for pair in todo.norms.values() for name in pair))}


class ChannelMoments:
    """Streaming mean and variance of every channel over frames, in float64; joined as Chan, Golub and LeVeque do."""

    def __init__(self) -> None:
        self.frames, self.mean, self.squares = 0, torch.zeros((), device="cpu"), torch.zeros((), device="cpu")

    def update(self, rows: Tensor, keep: Tensor | None) -> None:
        """Add [frames, n]."""
        rows = (rows if keep is None else rows[keep]).double()
        count, total = len(rows), self.frames + len(rows)
        if not count:
            return
        mean = rows.mean(0)
        drift = mean - self.mean
        self.squares = self.squares + (rows - mean).square().sum(0) + drift.square() * (self.frames * count / total)
        self.mean, self.frames = self.mean + drift * (count / total), total

    @property
    def deviation(self) -> Tensor:
        """Of the population."""
        return (self.squares / max(self.frames, 1)).sqrt()


Parents = tuple[ChannelMoments, ChannelMoments]

Goal = tuple[Tensor, Tensor]
"""Mean and deviation of each unit."""


def _observed(calibration: Calibration) -> tuple[Plan, dict[str, Parents]]:
    """The plan, and the moments of both parents' outputs at its layers."""
    todo = plan(calibration.program)
    sides = {name: (ChannelMoments(), ChannelMoments()) for name in todo.layers}
    for name, stops in calibration.batch_by_batch(todo.layers, "statistics of the parents"):
        for moments, stop in zip(sides[name], stops, strict=True):
            rows = todo.layers[name].outputs(stop.value)
            moments.update(rows, kept_rows(stop.mask, len(rows)))
    return todo, sides


def _goal(layer: AffineLayer, parents: Parents, shares: Shares) -> Goal:
    a, b = parents
    share = shares.of_rows(layer.weight, layer.out_dim).to(a.mean.device)
    return share * a.mean + (1 - share) * b.mean, share * a.deviation + (1 - share) * b.deviation


def _rescale(layer: AffineLayer, goal: Goal, state: dict[str, Tensor], stops: Sequence[Stop]) -> None:
    moments = ChannelMoments()
    for stop in stops:
        rows = layer.outputs(stop.value)
        moments.update(rows, kept_rows(stop.mask, len(rows)))
    mean, deviation = goal
    scale = torch.where(_alive(moments), deviation / moments.deviation.clamp(min=1e-300), 1.0)
    shift = mean - scale * moments.mean if layer.bias is not None else torch.zeros_like(scale)
    weight = state[layer.weight]
    shape = [1] * weight.dim()
    shape[layer.out_dim] = -1
    state[layer.weight] = (weight.double() * scale.reshape(shape)).to(weight.dtype)
    if layer.bias is not None:
        bias = state[layer.bias]
        state[layer.bias] = (bias.double() * scale + shift).to(bias.dtype)
    for stop in stops:
        y = stop.value
        units = [1] * y.dim()
        units[layer.channel] = -1
        stop.replace(y * scale.reshape(units).to(y) + shift.reshape(units).to(y))


def _alive(moments: ChannelMoments) -> Tensor:
    """Units that vary by more than the rounding of float32."""
    return moments.deviation > 1e-6 * (moments.mean.square() + moments.deviation.square()).sqrt()


def _renorm(names: tuple[str, str], state: dict[str, Tensor], stops: Sequence[Stop]) -> None:
    moments = ChannelMoments()
    for stop in stops:
        x = stop.input(stop.node.all_input_nodes[0].name)
        moments.update(x.movedim(1, -1).flatten(0, -2), None)
    variance = moments.squares / max(moments.frames - 1, 1)
    for name, value in zip(names, (moments.mean, variance), strict=True):
        state[name] = value.to(state[name])
    for stop in stops:
        stop.again()


def describe(said: Mapping[str, str]) -> dict[str, int]:
    """How many layers of a plan have each fate."""
    counts: dict[str, int] = {}
    for what in said.values():
        counts[what] = counts.get(what, 0) + 1
    return counts
