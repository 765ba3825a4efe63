"""Merging with data and by group: layers as matrices, least squares, REPAIR, BatchNorm, shares."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pairs import HUBERT, PLANTED, gpt2, mlp, plant, spread, vectors
from torch import Tensor, nn
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel, HubertModel

import permgraph as pg
from permgraph.matching.correlation import Pair
from permgraph.merging import CORRECTIONS, LAYER_METHODS
from permgraph.merging.calibration import Calibration
from permgraph.merging.layers import find_layers
from permgraph.merging.merge import recipe
from permgraph.merging.repair import SCALE, WHOLE, describe, plan
from permgraph.merging.shares import correlation_shares, shares_of
from permgraph.tracing.capture import Program, capture

Batch = Any


class Block(nn.Module):
    """A residual block with BatchNorm, without biases before it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))))


def resnet() -> nn.Module:
    stem = [nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
    return nn.Sequential(*stem, Block(8), Block(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))


def convs() -> nn.Module:
    """Stride, dilation, groups, padding by name, and a kernel that is not square."""
    return nn.Sequential(
        nn.Conv2d(3, 8, (3, 2), stride=(1, 2), padding=(2, 1)),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, groups=4, dilation=2, padding="same"),
        nn.ReLU(),
        nn.Conv2d(12, 6, 3, padding="same", bias=False),
        nn.ReLU(),
        nn.Flatten(2),
        nn.Conv1d(6, 5, 4, stride=3, padding="valid"),
        nn.Flatten(),
        nn.LazyLinear(4),
    )


class Tail(nn.Module):
    """Weights used as matrices: transposed, as they are, and twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(5, 6))
        self.second = nn.Parameter(torch.randn(6, 6))
        self.last = nn.Linear(6, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(x @ self.first)
        x = torch.relu(x @ self.second.T)
        return self.last(torch.relu(x @ self.second.T))


def small_bert() -> nn.Module:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    return BertModel(BertConfig(vocab_size=50, **sizes))


def small_gpt2() -> nn.Module:
    special = {"bos_token_id": 0, "eos_token_id": 0}
    return GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=50, n_positions=32, **special))


def _images() -> Batch:
    return torch.randn(16, 3, 8, 8)


def _ids() -> Batch:
    return {"input_ids": torch.randint(0, 50, (4, 20))}


@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_an_even_kernel_has_its_odd_zero_after_the_input() -> None:
    layer = nn.Conv2d(3, 4, (2, 4), padding="same").eval()
    x = torch.randn(2, 3, 6, 5)
    found = next(find_layers(capture(layer, (x,))).single)
    y = torch.einsum("gfi,goi->fgo", found.rows(x), found.matrix(layer.weight)).flatten(1) + layer.bias
    torch.testing.assert_close(y, found.outputs(layer(x)))


def _padded() -> Batch:
    mask = torch.ones(4, 20, dtype=torch.long)
    mask[:2, 13:] = 0
    return _ids() | {"attention_mask": mask}


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Batch]]] = {
    "mlp": (mlp, lambda: torch.randn(64, 5)),
    "tail": (Tail, lambda: torch.randn(64, 5)),
    "convs": (convs, _images),
    "resnet": (resnet, _images),
    "hubert": (lambda: HubertModel(HUBERT), lambda: {"input_values": torch.randn(2, 4000)}),
    "bert": (small_bert, _ids),
    "bert, padded": (small_bert, _padded),
    "gpt2": (small_gpt2, _padded),
}


class Two:
    """Two unrelated models of a kind, batches, and what merging sees of them."""

    def __init__(self, name: str) -> None:
        build, batch = MODELS[name]
        torch.manual_seed(0)
        self.batches = [batch() for _ in range(3)]
        self.a, self.b = (self._built(build, seed) for seed in (1, 2))
        states = [model.state_dict(keep_vars=True) for model in (self.a, self.b)]
        self.calibration = Calibration(Pair(self.a, self.b, *states), self.batches)

    def _built(self, build: Callable[[], nn.Module], seed: int) -> nn.Module:
        torch.manual_seed(seed)
        model = build().train()
        call(model, self.batches[0])
        return spread(model, seed)

    def merged(self, **options: Any) -> nn.Module:
        model = copy.deepcopy(self.a)
        model.load_state_dict(pg.merge(self.a, self.b, data=self.batches, **options))
        return model

    def seen(self, model: nn.Module) -> dict[str, Tensor]:
        """Node -> the activations of a model on all batches, concatenated."""
        found: dict[str, list[Tensor]] = {}
        for program, inputs, _ in self.calibration.inputs(""):
            for node, value in self.calibration.runner(program, model.state_dict()).steps(inputs):
                if isinstance(value, Tensor):
                    found.setdefault(node.name, []).append(value)
        return {name: torch.cat(values) for name, values in found.items() if values[0].dim()}


def call(model: nn.Module, batch: Batch) -> Any:
    with torch.no_grad():
        return model(**batch) if isinstance(batch, dict) else model(batch)


def program_of(name: str) -> tuple[Program, Two]:
    two = Two(name)
    batch = two.batches[0]
    args, kwargs = ((), batch) if isinstance(batch, dict) else ((batch,), {})
    return capture(two.a, args, kwargs), two


@pytest.mark.parametrize("name", MODELS)
def test_a_layer_is_its_matrix_on_its_rows(name: str) -> None:
    program, two = program_of(name)
    seen, state = two.seen(two.a), two.a.state_dict()
    layers = [use for uses in find_layers(program).found.values() for use in uses]
    assert layers
    for layer in layers:
        y = torch.einsum("gfi,goi->fgo", layer.rows(seen[layer.source]), layer.matrix(state[layer.weight])).flatten(1)
        y = y if layer.bias is None else y + state[layer.bias]
        torch.testing.assert_close(y, layer.outputs(seen[layer.node]), atol=1e-5, rtol=1e-5)
        weight = state[layer.weight]
        assert torch.equal(layer.restored(layer.matrix(weight), weight.shape), weight)


FOUND = {  # the number of weights, and what is said of those that are left
    "mlp": (3, set()),
    "tail": (3, set()),
    "convs": (5, set()),
    "resnet": (6, set()),
    "hubert": (7 + 1 + 2 * 6, {"its weight is computed from other parameters"}),
    "bert": (2 * 6 + 1, set()),
    "gpt2": (2 * 4, {"transformer.wte.weight is used in another way too"}),
}


@pytest.mark.parametrize("name", FOUND)
def test_layers_are_found(name: str) -> None:
    layers = find_layers(program_of(name)[0])
    assert (len(layers.found), set(layers.left.values())) == FOUND[name]


@pytest.mark.parametrize("method", LAYER_METHODS)
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
    for program, inputs, mask in two.calibration.inputs(""):
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


@pytest.mark.parametrize("method", LAYER_METHODS)
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
    for method in LAYER_METHODS:
        found = pg.merge(two.a, two.b, method=method, data=two.batches)["0.weight"]
        torch.testing.assert_close(found[:, 2:], linear[:, 2:], atol=1e-6, rtol=1e-6)


def _statistics(two: Two, layer: Any, model: nn.Module) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each unit, padding left out."""
    kept = []
    for program, inputs, mask in two.calibration.inputs(""):
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
    for name, value in pg.merge(two.a, two.b, method="batch_norm", data=two.batches).items():
        assert torch.equal(value, pg.merge(two.a, two.b)[name])


@pytest.mark.parametrize("method", [*LAYER_METHODS, *CORRECTIONS, "slerp+batch_norm+repair"])
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


@pytest.mark.parametrize("method", [*LAYER_METHODS, *CORRECTIONS])
def test_half_precision_comes_back_as_half_precision(method: str) -> None:
    two = Two("resnet")
    a, b = copy.deepcopy(two.a).bfloat16(), copy.deepcopy(two.b).bfloat16()
    merged = pg.merge(a, b, method=method, data=[batch.bfloat16() for batch in two.batches])
    wanted = pg.merge(two.a, two.b, method=method, data=two.batches)
    for name, value in merged.items():
        assert value.dtype == a.state_dict()[name].dtype
        torch.testing.assert_close(value.float(), wanted[name].float(), atol=0.1, rtol=0.1)


def _shares(weight: Any, name: str = "gpt2") -> Any:
    planted = PLANTED[name]()
    return shares_of(weight, None, planted.spec).of


def test_a_share_by_role_is_that_of_the_first_axis_that_is_no_residual_stream() -> None:
    of = _shares({"attention": 0.1, "feed_forward": 0.2, "residual": 0.3, "default": 0.4})
    layer = "transformer.h.0."
    assert of(f"{layer}attn.c_proj.weight") == 0.1
    assert of(f"{layer}mlp.c_fc.weight") == of(f"{layer}mlp.c_fc.bias") == of(f"{layer}mlp.c_proj.weight") == 0.2
    assert of(f"{layer}ln_1.weight") == of("transformer.wte.weight") == 0.3
    assert _shares({"default": 0.4})("transformer.wte.weight") == 0.4


def test_shares_within_a_fused_projection_follow_its_thirds() -> None:
    of = _shares({"attention.vo": 0.9, "attention.heads": 0.2})
    fused = of("transformer.h.0.attn.c_attn.weight")
    assert fused.shape == (32, 96)
    assert set(fused[:, :64].flatten().tolist()) == {0.2}
    assert set(fused[:, 64:].flatten().tolist()) == {0.9}


def test_the_most_special_key_is_kept() -> None:
    name = "transformer.h.1.mlp.hidden"
    names = [group.name for group in PLANTED["gpt2"]().spec.groups if group.role == "feed_forward"]
    of = _shares({names[1]: 0.9, "feed_forward": 0.2})
    assert (of("transformer.h.0.mlp.c_fc.weight"), of("transformer.h.1.mlp.c_fc.weight")) == (0.2, 0.9), name


@pytest.mark.parametrize("method", ["linear", "slerp", *LAYER_METHODS])
def test_shares_of_one_and_nothing_are_the_parents_by_group(method: str) -> None:
    planted = gpt2()
    torch.manual_seed(3)
    other = spread(copy.deepcopy(planted.a), 7)
    weight = {"attention": 1.0, "feed_forward": 0.0, "residual": 1.0, "default": 1.0}
    data = None if method in ("linear", "slerp") else planted.batches
    merged = pg.merge(planted.a, other, weight=weight, method=method, spec=planted.spec, data=data)
    for name, value in merged.items():
        with_its_weight = method in LAYER_METHODS or "c_proj.bias" not in name
        parent = other if ".mlp." in name and with_its_weight else planted.a
        torch.testing.assert_close(value, parent.state_dict()[name], atol=1e-4, rtol=1e-4, msg=name)


def test_shares_from_correlation_leave_to_a_what_does_not_match() -> None:
    planted = plant(mlp(), vectors())
    found = pg.align(planted.a, planted.b, planted.batches)
    shares = correlation_shares(found, 0.6)
    assert shares == pytest.approx(dict.fromkeys((*found.gains, "default"), 0.6))
    other = mlp()
    for parameter in other.parameters():
        nn.init.normal_(parameter)
    found = pg.align(planted.a, other, planted.batches)
    for name, gain in found.gains.items():
        assert correlation_shares(found)[name] == pytest.approx(1 - 0.5 * gain.solution)
        assert 0.5 < correlation_shares(found)[name] <= 1
    merged = pg.merge(planted.a, other, alignment=found, weight="correlation")
    share = correlation_shares(found)[next(iter(found.gains))]
    wanted = share * planted.a[0].weight + (1 - share) * found.moved("0.weight")
    torch.testing.assert_close(merged["0.weight"], wanted.detach())


def test_recipes() -> None:
    assert (recipe("repair").first, recipe("repair").corrections) == ("linear", ("repair",))
    assert recipe("slerp+batch_norm+repair").corrections == ("batch_norm", "repair")
    assert not recipe("slerp").needs_data
    assert recipe("pleas").needs_data


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
