"""What all merges with data have in common: the parents left alone, dtypes, recipes, refusals, progress."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from merging_cases import Two
from pairs import mlp, spread, vectors
from torch import Tensor, nn

import permgraph as pg
from permgraph.merging import correction, layer_method
from permgraph.merging.merge import steps_of


@pytest.mark.filterwarnings("ignore::permgraph.errors.PermgraphWarning")
@pytest.mark.parametrize("method", [*layer_method, *correction, "slerp+batch_norm+repair"])
def test_models_are_left_alone_and_what_comes_out_is_an_ordinary_state_dict(method: str) -> None:
    two = Two("gpt2")
    before = copy.deepcopy((two.a.state_dict(), two.b.state_dict()))
    merged = pg.merge(two.a, two.b, method=method, data=iter(two.batches))
    assert merged["lm_head.weight"] is merged["transformer.wte.weight"]
    for name, value in two.a.state_dict().items():
        assert (merged[name].shape, merged[name].dtype) == (value.shape, value.dtype)
        assert not merged[name].requires_grad
    for model, kept in zip((two.a, two.b), before, strict=True):
        assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("method", [*layer_method, *correction])
def test_half_precision_comes_back_as_half_precision(method: str) -> None:
    two = Two("resnet")
    a, b = copy.deepcopy(two.a).bfloat16(), copy.deepcopy(two.b).bfloat16()
    merged = pg.merge(a, b, method=method, data=[batch.bfloat16() for batch in two.batches])
    wanted = pg.merge(two.a, two.b, method=method, data=two.batches)
    for name, value in merged.items():
        assert value.dtype == a.state_dict()[name].dtype
        torch.testing.assert_close(value.float(), wanted[name].float(), atol=0.1, rtol=0.1)


def test_recipes() -> None:
    assert (steps_of("repair").first, steps_of("repair").corrections) == ("linear", ("repair",))
    assert steps_of("slerp+batch_norm+repair").corrections == ("batch_norm", "repair")
    assert not steps_of("slerp").needs_data
    assert steps_of("pleas").needs_data


def _non_finite() -> list[Tensor]:
    return [torch.full((4, 5), float("nan"))]


def _by_weights() -> pg.Alignment:
    return pg.align(mlp(), mlp(), args=(vectors()[0],))


REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "unknown": ({"method": "linear+magic"}, pg.OptionError, "pleas, regmean, with"),
    "a correction first": ({"method": "repair+regmean"}, pg.OptionError, "not 'repair.regmean'"),
    "no data": ({"method": "regmean"}, pg.CalibrationError, "give it calibration data"),
    "empty data": ({"method": "repair", "data": []}, pg.CalibrationError, "empty"),
    "not finite": ({"method": "pleas", "data": _non_finite}, pg.CalibrationError, r"batch 1: args\[0\].*not finite"),
    "by role without groups": ({"weight": {"attention": 0.5}}, pg.OptionError, "pass alignment= or spec="),
    "another word": ({"weight": "magic"}, pg.OptionError, "not 'magic'"),
    "no alignment": ({"weight": "correlation"}, pg.OptionError, "needs an alignment by correlation"),
    "by weights": ({"weight": "correlation", "alignment": _by_weights}, pg.OptionError, 'by "weights"'),
    "an unknown role": ({"weight": {"conv": 0.5}, "alignment": _by_weights}, pg.SpecMismatchError, "role conv"),
    "out of range": ({"weight": {"default": 1.5}, "alignment": _by_weights}, pg.OptionError, "not 1.5"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    options, error, message = REFUSED[case]
    options = {name: value() if callable(value) else value for name, value in options.items()}
    with pytest.raises(error, match=message):
        pg.merge(mlp(), mlp(), **options)


def test_activations_that_overflow_are_refused() -> None:
    a = mlp()
    with torch.no_grad():
        a[0].weight.fill_(1e38)
    with pytest.raises(pg.CalibrationError, match="not finite"):
        pg.merge(a, mlp(), method="regmean", data=vectors())


def test_progress_is_told() -> None:
    told: list[str] = []
    two = Two("mlp")
    pg.merge(
        two.a, two.b, method="regmean+repair", data=two.batches, progress=lambda stage, done, total: told.append(stage)
    )
    assert list(dict.fromkeys(told)) == [
        "second moments",
        "least squares",
        "statistics of the parents",
        "statistics of the merged model",
    ]


def normed(seed: int) -> nn.Module:
    return spread(nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.Linear(8, 3)), seed)


OTHERS = {
    "another B": ("permutation", lambda a, b, c: (a, c), "model B is not the one that was aligned"),
    "the other way round": ("permutation", lambda a, b, c: (b, a), "model B is not the one that was aligned"),
    "another A, folded": ("all", lambda a, b, c: (c, b), "model A is not the one that was aligned"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_models_that_an_alignment_does_not_know_are_refused(case: str) -> None:
    kinds, given, message = OTHERS[case]
    a, b, c = map(normed, range(3))
    alignment = pg.align(a, b, vectors(), kinds=kinds)
    with pytest.raises(pg.OptionError, match=message):
        pg.merge(*given(a, b, c), alignment=alignment)


@pytest.mark.parametrize("kinds", ["permutation", "all"])
def test_models_with_the_weights_that_were_aligned_are_taken(kinds: str) -> None:
    a, b = normed(0), normed(1)
    alignment = pg.align(a, b, vectors(), kinds=kinds)
    again = pg.merge(copy.deepcopy(a), copy.deepcopy(b), alignment=alignment)
    wanted = pg.merge(a, b, alignment=alignment)
    assert all(torch.equal(again[name], tensor) for name, tensor in wanted.items())
