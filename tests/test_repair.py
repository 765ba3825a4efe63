"""REPAIR and the statistics of BatchNorm."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from merging_cases import Two, call, program_of
from torch import Tensor, nn

import permgraph as pg
from permgraph.errors import PermgraphWarning
from permgraph.merging.methods.repair import SCALE, WHOLE, describe, plan


def _statistics(two: Two, layer: Any, model: nn.Module) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each unit, padding left out."""
    kept = []
    for program, inputs, masks in two.calibration.inputs(""):
        mask = masks.get(layer.node)
        for node, value in two.calibration.runner(program, model.state_dict()).steps(inputs):
            if node.name == layer.node:
                rows = layer.outputs(value).double()
                kept.append(rows if mask is None or len(rows) != mask.numel() else rows[mask.flatten()])
    rows = torch.cat(kept)
    return rows.mean(0), rows.std(0, correction=0)


REPAIRED = {"mlp": "linear", "convs": "regmean", "bert, padded": "linear", "gpt2": "slerp", "hubert": "pleas"}


@pytest.mark.parametrize("name", REPAIRED)
def test_repair_restores_the_interpolated_statistics(name: str) -> None:
    two, share, first = Two(name), 0.3, REPAIRED[name]
    todo = plan(two.calibration.program)
    plain, repaired = two.merged(method=first, weight=share), two.merged(method=f"{first}+repair", weight=share)
    assert todo.layers
    off = 0.0
    for node, layer in todo.layers.items():
        a, b = (_statistics(two, layer, m) for m in (two.a, two.b))
        mean, deviation = (share * x + (1 - share) * y for x, y in zip(a, b, strict=True))
        found, before = _statistics(two, layer, repaired), _statistics(two, layer, plain)
        torch.testing.assert_close(found[1], deviation, rtol=1e-3, atol=1e-5)
        off += (before[1] - deviation).abs().sum().item()
        if todo.said[node] == WHOLE:
            torch.testing.assert_close(found[0], mean, rtol=1e-3, atol=1e-4)
    assert off > 0.01


def test_repair_takes_the_statistics_of_a_norm_anew_and_leaves_what_it_reads() -> None:
    two = Two("resnet")
    todo = plan(two.calibration.program)
    kinds = {"left to the norm that reads it": 5, "statistics of the norm": 5, WHOLE: 1}
    assert describe(todo.said) == kinds
    plain, merged = (two.merged(method=method) for method in ("linear", "repair"))
    assert torch.equal(merged[0].weight, plain[0].weight)
    x = torch.cat(two.batches)
    inner = merged[:3](x)
    for block in merged[3:5]:  # what each norm gives out has its shift and scale as mean and deviation
        out = block.bn1(block.conv1(inner))
        torch.testing.assert_close(out.mean((0, 2, 3)), block.bn1.bias, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(out.std((0, 2, 3)), block.bn1.weight.abs(), atol=1e-3, rtol=1e-3)
        inner = block(inner)


def test_what_repair_leaves_alone_is_said() -> None:
    said = plan(program_of("tail")[0]).said
    assert [*said.values()] == [SCALE, *["second is used more than once"] * 2, SCALE]
    assert "transformer.wte.weight is used in another way too" in plan(program_of("gpt2")[0]).said.values()


def test_re_estimated_statistics_are_those_of_torch_in_training_mode() -> None:
    two = Two("resnet")
    found = two.merged(method="batch_norm", weight=0.3)
    wanted = two.merged(method="linear", weight=0.3)
    for module in wanted.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    wanted.train()
    for batch in two.batches:
        call(wanted, batch)
    for name, value in found.state_dict().items():
        if "num_batches" not in name:
            torch.testing.assert_close(value, wanted.state_dict()[name], msg=name)


def test_without_a_norm_there_is_nothing_to_re_estimate() -> None:
    two = Two("mlp")
    with pytest.warns(PermgraphWarning, match="the models have no BatchNorm, so batch_norm changed nothing"):
        merged = pg.merge(two.a, two.b, method="batch_norm", data=two.batches)
    assert all(torch.equal(value, pg.merge(two.a, two.b)[name]) for name, value in merged.items())
