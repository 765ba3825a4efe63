"""Two models compared: the same up to symmetry, related or independent; what is planted is never missed."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kind_cases import KIND_CASES
from safetensors.torch import save_file
from test_zoo import derived, parameters
from torch import Tensor, nn
from transformers import BertConfig, BertModel
from typer.testing import CliRunner
from zoo import ROWS, Row

import permgraph as pg
from permgraph.cli.app import app
from permgraph.pages.comparison import comparison_page
from permgraph.uses.comparison import report
from permgraph.uses.comparison.chance import p_value

FAST = [row for row in ROWS if row.order and not row.slow and row.name != "more than 8192 units"]
NAMED = (
    "mlp", "learned queries", "LSTM, 1 layers", "grouped conv", "rotary, grouped queries", "mlp, free output",
)  # fmt: skip
BY_FORMS = ("channel shuffle", "soft mixture of experts", "two inputs, two outputs", "GroupNorm")
SHOWN = pytest.mark.parametrize("row", parameters(row for row in FAST if row.name in NAMED))


def generic(model: nn.Module, seed: int) -> nn.Module:
    """A copy with weights as large as after an initialisation, and vectors that are not uniform."""
    found = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in found.parameters():
            if parameter.is_floating_point():
                drawn = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
                parameter.copy_(drawn * parameter.shape[-1] ** -0.5 if parameter.dim() > 1 else parameter + 0.3 * drawn)
    return found


def moved(model: nn.Module, case: Any, outputs: str, seed: int) -> nn.Module:
    """The same function in another place of the orbit of all kinds."""
    spec = pg.derive(model, case.args, case.kwargs, outputs=outputs, kinds="all")
    found = copy.deepcopy(model)
    found.load_state_dict(spec.apply(spec.sample(seed), model.state_dict()))
    return found


def disturbed(model: nn.Module, share: float) -> nn.Module:
    """Noise of this share of the size of each weight tensor."""
    found = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in found.parameters():
            if parameter.is_floating_point():
                size = share * parameter.norm() / max(parameter.numel(), 1) ** 0.5
                parameter.add_(size * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return found


def compared(row: Row, a: nn.Module, b: nn.Module) -> pg.Comparison:
    case = derived(row)[0]
    return pg.compare(a, b, args=case.args, kwargs=case.kwargs, outputs=row.outputs)


def planted(row: Row, seed: int) -> tuple[nn.Module, nn.Module]:
    case = derived(row)[0]
    a = generic(case.model, seed)
    return a, moved(a, case, row.outputs, seed + 1)


@SHOWN
def test_a_planted_element_is_the_same_and_a_disturbed_one_is_related(row: Row) -> None:
    a, b = planted(row, 1)
    found = compared(row, a, b)
    assert found.verdict == "same"
    assert found.alignment.certificate.ok
    assert found.whole.aligned_distance < 1e-6 < found.whole.unmoved_distance
    assert compared(row, a, disturbed(b, 0.01)).verdict == "related"


@pytest.mark.parametrize("row", parameters(row for row in FAST if row.name in BY_FORMS))
def test_canonical_forms_find_what_matching_misses(row: Row) -> None:
    a, b = planted(row, 1)
    found = compared(row, a, b)
    assert found.verdict == "same"
    assert found.alignment.certificate.ok


@SHOWN
def test_another_seed_is_not_the_same(row: Row) -> None:
    model = derived(row)[0].model
    found = compared(row, generic(model, 1), generic(model, 2))
    assert found.verdict != "same"
    assert found.whole.aligned_distance > 0.1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("row", parameters(FAST))
def test_no_planted_element_is_missed_and_no_other_seed_is_the_same(row: Row) -> None:
    model = derived(row)[0].model
    for seed in range(1, 11, 2):
        a, b = planted(row, seed)
        assert compared(row, a, b).verdict == "same", seed
        if derived(row)[1].coverage:
            assert compared(row, a, generic(model, seed + 100)).verdict != "same", seed


@pytest.mark.parametrize("case", KIND_CASES, ids=[case.name for case in KIND_CASES])
def test_all_kinds_are_seen_through(case: Any) -> None:
    torch.manual_seed(0)
    a = generic(case.build().double().eval(), 3)
    spec = pg.derive(a, case.inputs, kinds="all")
    b = copy.deepcopy(a)
    b.load_state_dict(spec.apply(spec.sample(1), a.state_dict()))
    assert pg.compare(a, b, args=case.inputs).verdict == "same"


@cache
def bert(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    return BertModel(BertConfig(vocab_size=50, max_position_embeddings=32, **sizes)).eval()


IDS = {"input_ids": torch.arange(12).reshape(2, 6)}


def tuned(model: nn.Module, rate: float) -> nn.Module:
    """A few steps of a training."""
    found = copy.deepcopy(model)
    optimizer = torch.optim.SGD(found.parameters(), rate)
    for _ in range(3):
        optimizer.zero_grad()
        found(**IDS).last_hidden_state.square().mean().backward()
        optimizer.step()
    return found.eval()


def test_origins_are_told() -> None:
    """A fine-tune in the basis of its origin, and one that was moved; another initialisation."""
    a = bert(0)
    other = tuned(a, 0.1)
    spec = pg.derive(a, (), IDS, kinds="all")
    hidden = copy.deepcopy(other)
    hidden.load_state_dict(spec.apply(spec.sample(0), other.state_dict()))
    here, there, else_ = (pg.compare(a, b, kwargs=IDS) for b in (other, hidden, bert(1)))
    assert (here.verdict, there.verdict, else_.verdict) == ("related", "related", "independent")
    assert here.p_value == 0.001
    assert there.p_value > 0.001
    assert there.whole.aligned > 0.999 > 0.99 > there.whole.unmoved
    assert else_.chance is None or else_.excess < 0.5
    assert set(here.layers) == {"embeddings", "pooler", "encoder.layer.0", "encoder.layer.1"}


def halves(layer: nn.Module) -> list[tuple[nn.Module, nn.Module]]:
    """(query, key) and (value, output): what is multiplied in the one and divided in the other."""
    own = layer.attention.self
    return [(own.query, own.key), (own.value, layer.attention.output.dense)]


def locked(layer: nn.Module) -> None:
    """Invertible maps of queries against keys and of values against the output, by head: arXiv 2509.01548."""
    for one, other in halves(layer):
        for h in range(4):
            rows, map_ = slice(8 * h, 8 * h + 8), torch.eye(8) + 0.3 * torch.randn(8, 8)
            one.weight[rows], one.bias[rows] = map_ @ one.weight[rows], map_ @ one.bias[rows]
            inverse = torch.linalg.inv(map_)
            if other is layer.attention.output.dense:
                other.weight[:, rows] = other.weight[:, rows] @ inverse
            else:
                other.weight[rows], other.bias[rows] = inverse.T @ other.weight[rows], inverse.T @ other.bias[rows]


def rearranged(layer: nn.Module) -> None:
    """Feed-forward units in another order, and heads that are scaled: arXiv 2503.07661."""
    order, up, down = torch.randperm(64), layer.intermediate.dense, layer.output.dense
    up.weight.copy_(up.weight[order].clone())
    up.bias.copy_(up.bias[order].clone())
    down.weight.copy_(down.weight[:, order].clone())
    for one, other in halves(layer):
        scale = (torch.rand(4) + 0.5).repeat_interleave(8)
        one.weight.mul_(scale[:, None])
        one.bias.mul_(scale)
        if other is layer.attention.output.dense:
            other.weight.div_(scale)
        else:
            other.weight.div_(scale[:, None])
            other.bias.div_(scale)


def protected(model: nn.Module, how: Callable[[nn.Module], None]) -> nn.Module:
    """A copy that computes the same and cannot be averaged with the model."""
    found = copy.deepcopy(model)
    torch.manual_seed(11)
    with torch.no_grad():
        for layer in found.encoder.layer:
            how(layer)
    return found


@pytest.mark.parametrize("how", [locked, rearranged])
def test_protections_are_seen_through_and_undone(how: Callable[[nn.Module], None]) -> None:
    """The merge of A with a protected relative is that with the relative itself."""
    model, other = bert(0), disturbed(bert(0), 0.01)
    hidden = protected(other, how)
    found = pg.compare(model, hidden, kwargs=IDS)
    assert found.verdict == "related"
    assert found.whole.unmoved < 0.98 < 0.9999 < found.whole.aligned
    states = (other.state_dict(), hidden.state_dict(), *(pg.merge(model, one) for one in (other, hidden)))
    states += (pg.merge(model, hidden, alignment=found.alignment),)
    one, same, expected, broken, merged = (outputs_of(model, state) for state in states)
    torch.testing.assert_close(same, one, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(merged, expected, rtol=1e-4, atol=1e-5)
    assert (broken - expected).abs().max() > 1e-3


def outputs_of(model: nn.Module, state: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return torch.func.functional_call(model, state, (), IDS).last_hidden_state


@pytest.mark.slow
def test_the_p_value_is_uniform_where_models_are_independent() -> None:
    """P(p ≤ α) = α, for networks trained from seeds of their own on one task."""
    x, batch = torch.randn(64, 4), torch.randn(2, 4)
    spec = pg.derive(task_net(0, x), batch)
    states = [task_net(seed, x).state_dict() for seed in range(600)]
    found = [p_value(spec, *states[k : k + 2], seed=k, draws=99) for k in range(0, len(states), 2)]
    for level in (0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9):
        share, error = np.mean(np.array(found) <= level), (level * (1 - level) / len(found)) ** 0.5
        assert abs(share - level) < 3.5 * error, level


def task_net(seed: int, x: Tensor) -> nn.Module:
    """A few steps towards one function, from a seed."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(20):
        optimizer.zero_grad()
        (model(x) - x[:, :3].sin()).square().mean().backward()
        optimizer.step()
    return model.eval()


def test_permutations_alone_are_found_to_the_last_bit() -> None:
    a = bert(0).bfloat16()
    try:
        spec = pg.derive(a, (), IDS)
        b = copy.deepcopy(a)
        b.load_state_dict(spec.apply(spec.sample(0), a.state_dict()))
        found = pg.compare(a, b, kwargs=IDS)
        assert (found.verdict, found.tolerance, found.whole.aligned_distance) == ("same", 0.0, 0.0)
    finally:
        a.float()


def test_a_model_without_symmetry_is_compared_as_it_stands() -> None:
    a, b = (generic(nn.Linear(4, 3).eval(), seed) for seed in (0, 1))
    x = (torch.randn(2, 4),)
    assert pg.compare(a, copy.deepcopy(a), args=x).verdict == "same"
    assert pg.compare(a, b, args=x).verdict == "independent"
    assert pg.compare(a, disturbed(a, 0.01), args=x).verdict == "related"


def test_the_report_has_verdict_evidence_and_pictures() -> None:
    found = pg.compare(bert(0), disturbed(bert(0), 0.01), kwargs=IDS)
    text, page = str(found), comparison_page(found, ("models/one", "other"))
    assert report.VERDICTS["related"] in text
    assert "cosine by layer" in text
    assert all(word in page for word in ("one and other", "<svg", "p = 0.001", "encoder.layer.0"))
    assert report.VERDICTS["related"] in found._repr_html_()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    root = tmp_path_factory.mktemp("berts")
    bert(0).save_pretrained(root / "b0")
    shutil.copytree(root / "b0", root / "b1")
    named = {f"_orig_mod.module.{name}": tensor for name, tensor in bert(0).state_dict().items()}
    save_file(named, root / "b1" / "model.safetensors")
    return lambda seed: root / f"b{seed}"


def test_the_command(folders: Callable[[int], Path], tmp_path: Path) -> None:
    page = tmp_path / "alike.html"
    words = ["compare", str(folders(0)), str(folders(0)), "--json", "--html", str(page)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["verdict"], found["whole"]["aligned_distance"]) == ("same", 0.0)
    assert found["element"]
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    result = CliRunner().invoke(app, ["compare", str(folders(0)), str(folders(1))])
    assert result.exit_code == 0, result.output
    assert "the same up to symmetry" in result.stdout, "with other names"
    assert "cosine by group" in result.stdout
