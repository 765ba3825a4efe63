"""Where a notebook's kernel runs the code, a long call draws a bar below its cell; elsewhere nothing is drawn."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

import permgraph as pg
from permgraph import progress
from permgraph.progress import Bar


def network(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)).eval()


class Cell:
    """The output of a cell: what is drawn in it, last drawing last."""

    def __init__(self):
        self.drawn = []

    def display(self, data, *, raw, display_id):
        assert (raw, display_id) == (True, True)
        self.drawn.append(data)
        return SimpleNamespace(update=lambda data, raw: self.drawn.append(data))


@pytest.fixture
def cell(monkeypatch):
    found = Cell()
    ipython, display = ModuleType("IPython"), ModuleType("IPython.display")
    ipython.get_ipython, display.display = lambda: SimpleNamespace(kernel=object()), found.display
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    monkeypatch.setattr(progress, "PAUSE", 0.0)
    return found


def test_a_call_draws_a_bar_and_takes_it_away(cell):
    a, b, x = network(0), network(1), [torch.randn(20, 3) for _ in range(3)]
    pg.align(a, b, x, kinds="all", method="learned", steps=2)
    assert cell.drawn[-1] == {"text/plain": "", "text/html": ""}
    assert any("<progress value=2 max=2></progress>" in data["text/html"] for data in cell.drawn)


def test_a_bar_names_its_stages(cell):
    bar = Bar(cell.display)
    bar.show("reading <b>", 3, None)
    bar.show("matching", 1, 4)
    assert cell.drawn[-1]["text/plain"] == "reading <b> 3\nmatching 1 of 4"
    assert "<progress></progress> reading &lt;b&gt; 3" in cell.drawn[-1]["text/html"]


@pytest.mark.parametrize("shell", [None, SimpleNamespace()], ids=["script", "terminal"])
def test_elsewhere_nothing_is_drawn(cell, monkeypatch, shell):
    monkeypatch.setattr(sys.modules["IPython"], "get_ipython", lambda: shell)
    pg.align(network(0), network(1), [torch.randn(20, 3)])
    assert cell.drawn == []


def test_a_function_that_is_given_is_called_instead(cell):
    seen = []
    pg.align(network(0), network(1), [torch.randn(20, 3)], progress=lambda *far: seen.append(far))
    assert seen
    assert cell.drawn == []
