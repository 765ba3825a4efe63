"""A specification that was changed by hand is refused, or moves every tensor onto itself."""

import json
import random

import numpy as np
import pytest
import torch
from pairs import PLANTED
from torch import nn

import permgraph as pg


class Convolved(nn.Module):
    """Grouped channels, flattened into a linear."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv1d(3, 6, 1), nn.Conv1d(6, 6, 1, groups=2), nn.Linear(24, 4)

    def forward(self, x):
        return self.c(self.b(self.a(x).relu()).flatten(1))


def specifications():
    """Each with a number of changes to make."""
    yield pg.derive(Convolved().eval(), (torch.randn(2, 3, 4),)), 300
    yield PLANTED["gpt2"]().spec, 60


def places(data, path=()):
    """The paths of all numbers and lists in JSON data."""
    if isinstance(data, list | dict):
        yield path
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            yield from places(value, (*path, key))
    elif isinstance(data, int):
        yield path


def changed(data, path, draw):
    """The same data with a number changed, or an entry of a list left out, doubled or put elsewhere."""
    data = json.loads(json.dumps(data))
    *above, key = path
    holder = data
    for step in above:
        holder = holder[step]
    if isinstance(holder[key], int):
        holder[key] += draw.choice([-1, 1, 2, 3, -3])
    elif isinstance(holder[key], list) and holder[key]:
        inner, k = holder[key], draw.randrange(len(holder[key]))
        change = draw.choice(["drop", "double", "shuffle"])
        if change == "drop":
            del inner[k]
        elif change == "double":
            inner.insert(k, inner[k])
        else:
            draw.shuffle(inner)
    return data


def test_no_element_is_lost_or_doubled():
    draw, refused, accepted = random.Random(0), 0, 0
    for spec, count in specifications():
        data = json.loads(spec.to_json())
        kept = {key: data[key] for key in ("layouts", "groups", "shapes")}
        everywhere = [path for path in places(kept) if path]
        for path in draw.choices(everywhere, k=count):
            text = json.dumps(data | changed(kept, path, draw))
            try:
                again = pg.PermutationSpec.from_json(text)
            except pg.SpecMismatchError:
                refused += 1
                continue
            accepted += 1
            element = again.sample(1)
            for name, layout in again.layouts.items():
                tensor = torch.arange(torch.Size(layout.shape).numel()).reshape(layout.shape)
                moved = again.apply_one(element.tables, name, tensor)
                assert torch.equal(moved.flatten().sort().values, tensor.flatten()), path
    assert refused > 150
    assert accepted > 20


TABLES = {
    "floats": (np.arange(6) + 0.9, "float64 numbers"),
    "whole floats": (np.arange(6.0), "float64 numbers"),
    "a text": ("abc", r"shape \(\)"),
    "ragged": ([[0, 1, 2], [3, 4], [5]], "rows of unequal lengths"),
    "truths": (np.zeros(6, dtype=bool), "bool numbers"),
    "repeated": ([0, 0, 1, 2, 3, 4], "repeated units"),
}


@pytest.mark.parametrize(("table", "message"), TABLES.values(), ids=TABLES)
def test_tables_that_are_no_permutations_are_refused(table, message):
    model = nn.Sequential(nn.Linear(3, 6), nn.Linear(6, 2)).eval()
    spec = pg.derive(model, (torch.randn(2, 3),))
    with pytest.raises(pg.SpecMismatchError, match=rf"hidden: a table of permutations .*{message}"):
        spec.apply({spec.groups[0].name: table}, model.state_dict())
