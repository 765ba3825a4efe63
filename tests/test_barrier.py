"""Interpolation curves: what they hold, the barrier, the picture."""

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pairs import mlp, plant, vectors
from torch import nn

import permgraph as pg
from permgraph.merging.barrier import plot_barriers


def _distance(target: nn.Module) -> Any:
    x = torch.cat(vectors())

    def judge(model: nn.Module) -> float:
        with torch.no_grad():
            return (model(x) - target(x)).square().mean().item()

    return judge


def test_a_barrier_is_what_lies_above_the_line_between_the_ends() -> None:
    found = pg.Barrier((0.0, 0.25, 0.5, 1.0), (1.0, 2.0, 2.5, 3.0))
    assert found.excess == pytest.approx((0.0, 0.5, 0.5, 0.0))
    assert (found.height, found.highest) == (pytest.approx(0.5), 0.25)
    assert pg.Barrier((0.0, 0.5, 1.0), (1.0, 0.5, 1.0)).height == 0


def test_a_planted_copy_has_a_barrier_and_none_once_it_is_aligned() -> None:
    planted = plant(mlp(), vectors())
    judge = _distance(planted.a)
    plain = pg.barrier(planted.a, planted.b, judge)
    assert plain.height > 1e-3
    assert plain.weights == pytest.approx([k / 10 for k in range(11)])
    found = pg.align(planted.a, planted.b, planted.batches)
    assert pg.barrier(planted.a, planted.b, judge, alignment=found).height < 1e-9
    repaired = pg.barrier(planted.a, planted.b, judge, weights=3, method="repair", data=iter(planted.batches))
    assert repaired.losses[1] != plain.losses[5]
    assert (repaired.losses[0], repaired.losses[-1]) == (plain.losses[0], plain.losses[-1])


def test_each_point_is_the_merge_at_that_share_and_accuracy_is_kept() -> None:
    a, b = mlp(), mlp()
    nn.init.normal_(b[0].weight)
    found = pg.barrier(a, b, lambda model: (model[0].weight.sum().item(), model[2].bias[0].item()), weights=[0.3, 0.9])
    assert found.weights == (0.0, 0.3, 0.9, 1.0)
    model = copy.deepcopy(a)
    for weight, loss, accuracy in zip(found.weights, found.losses, found.accuracies, strict=True):
        model.load_state_dict(pg.merge(a, b, weight=weight))
        assert (loss, accuracy) == pytest.approx((model[0].weight.sum().item(), model[2].bias[0].item()))


def test_the_picture_has_a_curve_for_each_and_is_written(tmp_path: Path) -> None:
    one = pg.Barrier((0.0, 0.5, 1.0), (1.0, 2.0, 1.0), (0.9, 0.5, 0.8))
    figure = plot_barriers({"plain": one, "aligned": one}, tmp_path / "curve.png", title="two")
    assert [len(axes.lines) for axes in figure.axes] == [2, 2]
    assert figure.axes[0].lines[0].get_ydata().tolist() == [1.0, 2.0, 1.0]
    assert (tmp_path / "curve.png").stat().st_size > 1000
    assert len(pg.Barrier((0.0, 0.5, 1.0), (1.0, 2.0, 1.0)).plot(tmp_path / "curve.svg").axes) == 1
    assert "<svg" in (tmp_path / "curve.svg").read_text()


def test_without_matplotlib_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(pg.OptionError, match=r"permgraph\[plot\]"):
        plot_barriers({})


REFUSED = {
    "two points": ({"weights": 2}, "points, 3 or more"),
    "no weight": ({"weights": []}, "points, 3 or more"),
    "outside": ({"weights": [1.5]}, "between 0 and 1"),
    "a loss that is not finite": ({"judge": lambda model: float("nan")}, "loss of model B is nan"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    options, message = REFUSED[case]
    with pytest.raises(pg.OptionError, match=message):
        pg.barrier(mlp(), mlp(), **({"judge": lambda model: 0.0} | options))
