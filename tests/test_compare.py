"""Two models compared: the same up to symmetry, related or independent; what is planted is never missed."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from compared_models import IDS, bert, disturbed
from kind_cases import KIND_CASES
from safetensors.torch import save_file
from test_zoo import derived, parameters
from torch import nn
from typer.testing import CliRunner
from zoo import ROWS, Row

import permgraph as pg
from permgraph.cli.app import app
from permgraph.pages.comparison import comparison_page
from permgraph.uses.comparison import report

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
    for seed in range(1, 15, 2):  # of 110 models, so that there are 770 pairs of either sort
        a, b = planted(row, seed)
        assert compared(row, a, b).verdict == "same", seed
        if derived(row)[1].coverage:
            assert compared(row, a, generic(model, seed + 100)).verdict != "same", seed


def test_maps_far_from_the_match_are_found() -> None:
    row = next(row for row in FAST if row.name == "heads as modules")  # products of lower rank, whose orbits are open
    assert compared(row, *planted(row, 5)).whole.aligned_distance < 1e-7


@pytest.mark.parametrize("case", KIND_CASES, ids=[case.name for case in KIND_CASES])
def test_all_kinds_are_seen_through(case: Any) -> None:
    torch.manual_seed(0)
    a = generic(case.build().double().eval(), 3)
    spec = pg.derive(a, case.inputs, kinds="all")
    b = copy.deepcopy(a)
    b.load_state_dict(spec.apply(spec.sample(1), a.state_dict()))
    assert pg.compare(a, b, args=case.inputs).verdict == "same"


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
