"""A specification that was changed is refused, or still moves every entry exactly once; nothing else is raised."""

import json

import numpy as np
import pytest
import torch
from fuzzing import mutated
from torch import nn

import permgraph as pg
from permgraph.errors import PermgraphError, SpecMismatchError


@pytest.fixture(scope="module")
def plain():
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).eval()
    return model, json.loads(pg.derive(model, torch.randn(2, 4)).to_json())


def changed(data, *path, to):
    data = json.loads(json.dumps(data))
    place = data
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to(place[path[-1]]) if callable(to) else to
    return json.dumps(data)


GROUP = ("groups", 0)
CELL = ("layouts", "0.weight", 1, 0)
CHANGES = {
    "layouts as a list": (("layouts",), [], "at layouts: an object is needed"),
    "shapes as a number": (("shapes",), 0, "at shapes: an object is needed"),
    "a size as text": ((*GROUP, 1), "6", r"at groups\[0\]\[1\]: a whole number"),
    "a size that is true": ((*GROUP, 1), True, "a whole number"),
    "a size below zero": ((*GROUP, 1), -6, "a whole number"),
    "a size past memory": ((*GROUP, 1), 10**9, "has an impossible size"),
    "another size": ((*GROUP, 1), 7, "hidden has another size on 0.weight"),
    "another kind": ((*GROUP, 6), "magic", "one of permutation, signed"),
    "a dependency on itself": ((*GROUP, 2), ["hidden"], "sizes for other dependencies"),
    "a circle": ((*GROUP,), lambda g: [g[0], 6, ["hidden"], [2], *g[4:]], "in a circle"),
    "an axis that is not there": ((*GROUP, 5), [["0.weight", 5]], "an axis that is not there"),
    "a group twice": (("groups",), lambda g: g * 2, "two groups have one name"),
    "an offset": ((*CELL, 0), [3, 0], "a cell of 0.weight reaches past its end"),
    "an offset less": ((*CELL, 0), [0], "a cell of 0.weight is not of its rank"),
    "a shorter leaf": ((*CELL, 1, 1), [1, 3, 1], "the cells of 0.weight do not cover it"),
    "a longer stride": ((*CELL, 1, 1), [1, 4, 2], "reaches past its end"),
    "positions that coincide": ((*CELL, 1), [[0, 3, 1], [0, 2, 1], [1, 4, 1]], "positions of 0.weight coincide"),
    "a leaf of no size": ((*CELL, 1, 1), [1, 0, 1], "a leaf of 0.weight"),
    "a move of no leaf": ((*CELL, 2), [["hidden", [7], []]], "repeats a leaf"),
    "a move of another leaf": ((*CELL, 2), [["hidden", [1], []]], "hidden has another size on 0.weight"),
    "two moves of one leaf": ((*CELL, 2), lambda m: m * 2, "two groups move one leaf"),
    "a move by nobody": ((*CELL, 2), [["other", [0], []]], "moved by an unknown group"),
    "a key that nobody has": ((*CELL, 2), [["hidden", [0], [[1]]]], "depends on other sizes"),
    "two cells that overlap": (
        ("layouts", "2.bias"), [[3], [[[0], [[0, 2, 1]], []], [[1], [[0, 1, 1]], []]]], "do not cover it"
    ),
    "another shape": (("shapes", "2.bias"), [4], "the layout of 2.bias is not of its shape"),
    "a number added as text": (("transfers",), lambda t: t | {"added": {"0.weight": "1"}}, "a finite number is needed"),
    "a number added to nothing": (("transfers",), lambda t: t | {"added": {"9.weight": 1}}, "adds to a tensor that"),
    "a parameter more": (("parameters",), lambda p: [*p, "9.weight"], "names a tensor that it does not have"),
    "a tie of no node": (("ties", "ties"), [[0, 99, 0]], "a tie of no node"),
    "a pin of no node": (("ties", "pins"), [[99, "x"]], "a pin of no node"),
    "a node of no group": (("ties", "nodes", 0, 6), "other", "a tie names an unknown group"),
    "another mode": (("mode",), "open", "one of fixed, free"),
    "blocks of another rank": (("unread",), {"2.bias": [[[[0, 1]], [[0, 1]]]]}, "what is not read of 2.bias"),
}  # fmt: skip


@pytest.mark.parametrize(("path", "to", "message"), CHANGES.values(), ids=CHANGES)
def test_a_specification_that_does_not_fit_together_is_refused(plain, path, to, message):
    with pytest.raises(SpecMismatchError, match=message):
        pg.PermutationSpec.from_json(changed(plain[1], *path, to=to))


TEXTS = {
    "nothing": ("", "damaged"),
    "no JSON": ("{", "damaged"),
    "a list": ("[]", "not a permgraph specification"),
    "nested too deep": ("[" * 5000, "damaged"),
    "a number past any": ('{"format": "permgraph.spec", "version": 1' + "0" * 5000 + "}", "damaged"),
}


@pytest.mark.parametrize(("text", "message"), TEXTS.values(), ids=TEXTS)
def test_text_that_is_no_specification_is_refused(text, message):
    with pytest.raises(SpecMismatchError, match=message):
        pg.PermutationSpec.from_json(text)


def use(spec, state):
    """Every use of a specification; the moved entries are a permutation of the old ones."""
    str(spec), repr(spec), spec.to_json(), spec.graph, spec.coverage, spec.log10_order, spec._repr_html_()
    for group in spec.groups:
        for axis in group.axes:
            str(spec.explain(axis))
    element = spec.sample(0)
    spec.check(state)
    for name, tensor in spec.apply(element, state).items():
        assert sorted(tensor.flatten().tolist()) == sorted(state[name].flatten().tolist())


@pytest.mark.parametrize("count", [300, pytest.param(30_000, marks=pytest.mark.slow)])
def test_changed_specifications_raise_nothing_but_errors_of_ours(plain, count):
    model, data = plain
    state = {n: torch.arange(t.numel(), dtype=torch.float32).reshape(t.shape) for n, t in model.state_dict().items()}
    draw, accepted = np.random.default_rng(0), 0
    for _ in range(count):
        text = json.dumps(mutated(data, draw))
        try:
            spec = pg.PermutationSpec.from_json(text)
            accepted += 1
            use(spec, state)
        except PermgraphError:
            continue
    assert accepted < count
