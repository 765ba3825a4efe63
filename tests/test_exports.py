"""How often models are exported: tracing is what a large model waits for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from commands import run
from pairs import mlp, vectors
from torch import nn

import permgraph as pg
from permgraph.tracing import capture as tracing

X = vectors()[0]


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """Every model that is exported, in order."""
    seen: list[nn.Module] = []
    export = tracing.export

    def counted(model: nn.Module, *rest: Any) -> Any:
        seen.append(model)
        return export(model, *rest)

    monkeypatch.setattr(tracing, "export", counted)
    return seen


SPEC = pg.derive(mlp(), (X,))
ALIGNED: dict[str, tuple[Callable[..., Any], int]] = {
    "by correlation": (lambda a, b: pg.align(a, b, vectors()), 2),
    "by correlation, with a specification": (lambda a, b: pg.align(a, b, vectors(), spec=SPEC), 2),
    "by weights": (lambda a, b: pg.align(a, b, args=(X,)), 2),
    "by weights, on two samples": (lambda a, b: pg.align(a, b, args=(X[:2],)), 1),
    "by both": (lambda a, b: pg.align(a, b, vectors(), mix=0.5), 2),
    "derived": (lambda a, b: pg.derive(a, (X,)), 1),
    "verified": (lambda a, b: pg.verify(a, (X,)), 3),
    "merged as they stand": (lambda a, b: pg.merge(a, b), 0),
    "merged with data": (lambda a, b: pg.merge(a, b, data=vectors(), method="regmean+repair"), 1),
    "merged with itself": (lambda a, b: pg.merge(a, a, data=vectors(), method="repair"), 1),
}


@pytest.mark.parametrize("case", ALIGNED)
def test_models_are_exported_once_for_each_shape_of_batch(case: str, exports: list[nn.Module]) -> None:
    """A on the first batch; beside it B on the one sample that its proof runs on, if the batch has more than two."""
    call, most = ALIGNED[case]
    call(mlp(), mlp())
    assert len(exports) <= most


def test_of_many_models_one_is_exported_beside_the_proof(exports: list[nn.Module]) -> None:
    models = [mlp() for _ in range(4)]
    pg.match_many(models, vectors())
    assert len(exports) <= 2


def test_merge_and_barrier_use_what_align_traced(exports: list[nn.Module]) -> None:
    a, b = mlp(), mlp()
    aligned = pg.align(a, b, vectors())
    exports.clear()
    pg.merge(a, b, alignment=aligned, data=vectors(), method="regmean+refit+repair")
    pg.barrier(
        a, b, lambda model: float(model(X).detach().sum()), alignment=aligned, data=vectors(), method="refit", weights=3
    )
    assert exports == []


def test_what_was_traced_is_not_used_for_other_weights(exports: list[nn.Module]) -> None:
    a, b = mlp(), mlp()
    aligned = pg.align(a, b, vectors())
    exports.clear()
    b[0].weight = nn.Parameter(b[0].weight.detach().clone())
    pg.merge(a, b, alignment=aligned, data=vectors(), method="repair")
    assert [id(traced[0].weight) for traced in exports] == [id(a[0].weight)]


def test_a_whole_merge_of_the_command_line_exports_each_model_twice_at_most(
    exports: list[nn.Module], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "exported_models.py").write_text(
        "import torch\nfrom torch import nn\n"
        "def make(seed):\n    torch.manual_seed(seed)\n"
        "    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()\n"
        "    return net, (torch.ones(2, 4),), {}\n"
        "def a():\n    return make(0)\ndef b():\n    return make(1)\n"
        "def data():\n    torch.manual_seed(2)\n    return [torch.randn(50, 4) for _ in range(3)]\n"
        "def loss(model):\n    return float(model(torch.ones(2, 4)).square().sum())\n"
    )
    monkeypatch.chdir(tmp_path)
    module = "python:exported_models"
    words = ("--data", f"{module}:data", "--merge", "refit", "--loss", f"{module}:loss")
    result = run("merge", f"{module}:a", f"{module}:b", *words, "--out", "out")
    assert result.exit_code == 0, result.output
    assert exports
    assert max(Counter(map(id, exports)).values()) <= 2
