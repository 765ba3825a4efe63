"""Least squares in the aligned space: RegMean, PLeaS, refit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from merging_cases import Two
from pairs import PLANTED
from torch import Tensor, nn

import permgraph as pg
from permgraph.comparing.layers import find_layers
from permgraph.merging import layer_method


@pytest.mark.parametrize("method", layer_method)
@pytest.mark.parametrize("name", PLANTED)
def test_least_squares_of_a_model_with_its_own_permuted_copy_is_the_model(name: str, method: str) -> None:
    planted = PLANTED[name]()
    found = pg.align(planted.a, planted.b, planted.batches, spec=planted.spec)
    merged = pg.merge(planted.a, planted.b, alignment=found, method=method, weight=0.3, data=planted.batches)
    for key, value in planted.a.state_dict().items():
        if key not in planted.spec.unreached:
            torch.testing.assert_close(merged[key], value, rtol=1e-4, atol=1e-5)


def _rows(two: Two, layer: Any, model: nn.Module) -> Tensor:
    """[groups, frames, in + 1], padding left out."""
    kept = []
    for program, inputs, masks in two.calibration.inputs(""):
        mask = masks.get(layer.source)
        for node, value in two.calibration.runner(program, model.state_dict()).steps(inputs):
            if node.name == layer.source:
                rows = layer.rows(value)
                rows = rows if mask is None or rows.shape[1] != mask.numel() else rows[:, mask.flatten()]
                kept.append(torch.cat([rows, torch.ones(*rows.shape[:2], 1)], 2))
    return torch.cat(kept, 1).double()


def _whole(layer: Any, state: dict[str, Tensor]) -> Tensor:
    matrix = layer.matrix(state[layer.weight])
    bias = torch.zeros(matrix.shape[:2]) if layer.bias is None else state[layer.bias].reshape(matrix.shape[:2])
    return torch.cat([matrix, bias.unsqueeze(-1)], 2).double()


def _misfit(method: str, x: tuple[Tensor, Tensor], parents: tuple[Tensor, Tensor], w: Tensor, share: float) -> float:
    """The objective of a method, from the activations themselves."""
    ys = [torch.einsum("gfi,goi->gfo", rows, matrix) for rows, matrix in zip(x, parents, strict=True)]
    if method == "pleas":
        mixed = share * x[0] + (1 - share) * x[1]
        goal = share * ys[0] + (1 - share) * ys[1]
        return (torch.einsum("gfi,goi->gfo", mixed, w) - goal).square().sum().item()
    misfits = [(torch.einsum("gfi,goi->gfo", rows, w) - y).square().sum().item() for rows, y in zip(x, ys, strict=True)]
    return share * misfits[0] + (1 - share) * misfits[1]


@pytest.mark.parametrize("method", layer_method)
@pytest.mark.parametrize("name", ["mlp", "tail", "convs", "resnet", "bert, padded", "hubert"])
def test_least_squares_fits_better_than_interpolation_and_no_worse_than_a_small_step_from_it(
    name: str, method: str
) -> None:
    two, share = Two(name), 0.3
    merged, linear = (two.merged(method=m, weight=share).state_dict() for m in (method, "linear"))
    generator = torch.Generator().manual_seed(0)
    layers = [uses[0] for uses in find_layers(two.calibration.program).found.values() if len(uses) == 1]
    for layer in layers:
        x = _rows(two, layer, two.a), _rows(two, layer, two.b)
        parents = _whole(layer, two.a.state_dict()), _whole(layer, two.b.state_dict())
        best, plain = _whole(layer, merged), _whole(layer, linear)
        fit = [_misfit(method, x, parents, w, share) for w in (best, plain)]
        alike = torch.equal(*x) and method == "regmean"  # the first layer: interpolation is the solution
        assert fit[0] == pytest.approx(fit[1]) if alike else fit[0] < 0.98 * fit[1], layer.weight
        step = torch.randn(best.shape, generator=generator, dtype=torch.float64) * 0.3 * best.std()
        if layer.bias is None:
            step[..., -1] = 0
        assert fit[0] < _misfit(method, x, parents, best + step, share), layer.weight


def test_regmean_is_the_least_squares_solution_of_the_stacked_frames() -> None:
    two, share = Two("mlp"), 0.25
    layer = next(find_layers(two.calibration.program).single)
    xs = [_rows(two, layer, m)[0] for m in (two.a, two.b)]
    ys = [x @ _whole(layer, m.state_dict())[0].T for x, m in zip(xs, (two.a, two.b), strict=True)]
    scale = [share**0.5, (1 - share) ** 0.5]
    stacked = [torch.cat([s * part for s, part in zip(scale, parts, strict=True)]) for parts in (xs, ys)]
    wanted = torch.linalg.lstsq(*stacked).solution.T
    found = _whole(layer, two.merged(method="regmean", weight=share).state_dict())[0]
    torch.testing.assert_close(found, wanted, atol=2e-3, rtol=2e-2)


def test_where_the_data_says_nothing_the_weights_are_interpolated() -> None:
    two = Two("mlp")
    for batch in two.batches:
        batch[:, 2:] = 0
    linear = pg.merge(two.a, two.b)["0.weight"]
    for method in layer_method:
        found = pg.merge(two.a, two.b, method=method, data=two.batches)["0.weight"]
        torch.testing.assert_close(found[:, 2:], linear[:, 2:], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", ["mlp", "tail", "convs", "resnet", "gpt2"])
def test_refit_fits_each_layer_on_the_merged_models_own_inputs(name: str) -> None:
    two, share = Two(name), 0.3
    plain, found = two.merged(weight=share), two.merged(method="refit", weight=share)
    generator = torch.Generator().manual_seed(0)
    gained = 0.0
    for layer in find_layers(two.calibration.program).single:
        rows = [_rows(two, layer, model) for model in (found, two.a, two.b)]
        states = [model.state_dict() for model in (found, two.a, two.b)]
        ys = [torch.einsum("gfi,goi->gfo", x, _whole(layer, s)) for x, s in zip(rows, states, strict=True)]
        goal = share * ys[1] + (1 - share) * ys[2]
        best, before = _whole(layer, states[0]), _whole(layer, plain.state_dict())
        step = torch.randn(best.shape, generator=generator, dtype=torch.float64) * 0.3 * best.std()
        if layer.bias is None:
            step[..., -1] = 0
        misfits = [
            (torch.einsum("gfi,goi->gfo", rows[0], w) - goal).square().sum().item() for w in (best, before, best + step)
        ]
        assert misfits[0] <= misfits[1] * (1 + 1e-5), layer.weight
        assert misfits[0] < misfits[2], layer.weight
        gained += misfits[1] - misfits[0]
    assert gained > 0.1


def test_refit_brings_the_outputs_nearer_to_the_mean_of_the_parents() -> None:
    two = Two("mlp")
    x = torch.cat(two.batches)
    goal = (two.a(x) + two.b(x)) / 2
    misfits = [(two.merged(method=method)(x) - goal).square().mean().item() for method in ("linear", "pleas", "refit")]
    assert misfits[2] < 0.5 * misfits[0]
    assert misfits[2] < misfits[1]
