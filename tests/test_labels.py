"""Labels of axes say all that a network on weights needs, and a random member of the orbit is the same function."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from test_units import FAST, outputs
from test_zoo import derived, parameters
from torch import Tensor, nn
from zoo import Row

import permgraph as pg


def permuted(blocks: list[dict[str, Any]], tables: dict[str, Any], tensor: Tensor) -> Tensor:
    """A tensor under permutations, with nothing at hand but its labels."""
    result = torch.full_like(tensor, -1)
    for block in blocks:
        sizes = [factor["size"] for axis in block["axes"] for factor in axis]
        number = {
            (dim, k): sum(len(axis) for axis in block["axes"][:dim]) + k
            for dim, axis in enumerate(block["axes"])
            for k in range(len(axis))
        }
        here = list(np.indices(sizes)) if sizes else []
        old = list(here)
        for move in block["moves"]:
            index = [_joined(here, sizes, [number[tuple(p)] for p in key]) for key in (*move["rows"], move["units"])]
            source = tables[move["group"]][tuple(index)]
            for place in reversed(move["units"]):
                k = number[tuple(place)]
                source, old[k] = np.divmod(source, sizes[k])
        result[_positions(block, number, here)] = tensor[_positions(block, number, old)]
    return result


def _joined(coordinates: list[Any], sizes: list[int], factors: list[int]) -> Any:
    index = np.zeros(sizes, dtype=np.int64)
    for k in factors:
        index = index * sizes[k] + coordinates[k]
    return index


def _positions(block: dict[str, Any], number: dict[tuple[int, int], int], coordinates: list[Any]) -> tuple[Any, ...]:
    found = []
    for dim, axis in enumerate(block["axes"]):
        position: Any = np.int64(block["start"][dim]) + 0 * sum(coordinates)
        for k, factor in enumerate(axis):
            position = position + factor["stride"] * coordinates[number[dim, k]]
        found.append(torch.as_tensor(position))
    return tuple(found)


@pytest.mark.parametrize("row", parameters(FAST, every=6))
def test_labels_say_what_permutations_do(row: Row) -> None:
    case, spec = derived(row)
    found = json.loads(json.dumps(spec.labels()))
    assert found["groups"].keys() == {group.name for group in spec.groups}
    element, state = spec.sample(0), case.model.state_dict()
    moved = spec.apply(element, state)
    for name, tensor in state.items():
        blocks: Any = found["tensors"]
        for part in name.split("."):
            blocks = blocks[part]
        if tensor.dim():
            assert torch.equal(permuted(blocks, element.tables, tensor), moved[name]), name


def test_labels_of_a_network_are_short() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 4)).eval()
    found = pg.derive(model, torch.randn(5, 2)).labels()
    assert found["groups"]["hidden"]["size"] == 3
    (block,) = found["tensors"]["2"]["weight"]
    assert [[factor["label"] for factor in axis] for axis in block["axes"]] == [[None], ["hidden"]]
    assert block["moves"] == [{"group": "hidden", "power": 1, "units": [[1, 0]], "rows": []}]


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("row", parameters(FAST[:12], every=3))
def test_an_augmented_model_is_the_same_function(row: Row) -> None:
    case = derived(row)[0]
    spec = pg.derive(case.model, case.args, case.kwargs)
    state = case.model.state_dict()
    one, again, other = (spec.augment(state, seed) for seed in (0, 0, 1))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not spec.groups or any(not torch.equal(one[name], other[name]) for name in one)
    for a, b in zip(outputs(case.model, state, case), outputs(case.model, other, case), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
