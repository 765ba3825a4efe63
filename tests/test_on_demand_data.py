"""Activations compared while the weights stay in their files: the same element, and each weight read a few times."""

import json
from collections import Counter

import pytest
import torch
from commands import run
from folders import bert, sentences
from test_on_demand import plant
from test_storage import stored

import permgraph as pg
from permgraph.checkpoints.lazy_state import LazyState
from permgraph.matching.correlation import Within
from permgraph.models.loading import load


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Folders a and b of a small BERT, b with an element planted, and texts."""
    root = tmp_path_factory.mktemp("on_demand_data")
    bert(root / "a")
    plant(root / "a", root / "b")
    sentences(root / "texts")
    return root


@pytest.fixture(scope="module")
def batches():
    generator = torch.Generator().manual_seed(0)
    return [{"input_ids": torch.randint(5, (2, 7), generator=generator)} for _ in range(5)]


@pytest.fixture(scope="module")
def whole(pair, batches):
    """The alignment of the models as a whole."""
    return pg.align(load(str(pair / "a")), load(str(pair / "b")), batches)


@pytest.fixture
def counted(monkeypatch):
    """How often each weight was asked for."""
    read, make = Counter(), LazyState.__getitem__

    def watched(self, name):
        read[name] += 1
        return make(self, name)

    monkeypatch.setattr(LazyState, "__getitem__", watched)
    return read


def test_the_output_is_that_of_whole_models(pair, tmp_path):
    words = ("merge", pair / "a", pair / "b", "--data", pair / "texts")
    said = run(*words, "--out", tmp_path / "parts", "--max-memory", "2GB").stdout
    assert "plan: the data is read once, 64 batches at a time" in said
    run(*words, "--out", tmp_path / "whole")
    parts, whole = stored(tmp_path / "parts"), stored(tmp_path / "whole")
    assert all(torch.equal(parts[name], whole[name]) for name in whole)
    records = [json.loads((tmp_path / made / "permgraph.json").read_text()) for made in ("parts", "whole")]
    assert records[0]["method"] == "correlation"
    assert records[0]["permutations"] == records[1]["permutations"]
    assert records[0]["gains"] == records[1]["gains"]


@pytest.mark.parametrize("within", [Within(1, 3), Within(20_000, 2), Within(None, 5)], ids=str)
def test_the_element_depends_on_neither_room_nor_batches_in_step(pair, batches, whole, within):
    a, b = (load(str(pair / side), on_demand=True) for side in "ab")
    data = batches if within.room is None else iter(batches)  # a generator is kept where the data is read again
    found = pg.align(a, b, data, within=within)
    assert found.gains == whole.gains
    for name, table in whole.permutations.items():
        assert (found.permutations[name] == table).all(), name


@pytest.mark.parametrize(("room", "in_step", "most"), [(None, 2, 3), (1, 5, 4)])
def test_a_weight_is_read_once_for_all_batches_in_step(pair, batches, counted, room, in_step, most):
    """Beside the looks for values that are not finite and for relatives, and the proof, which read it once each."""
    a, b = (load(str(pair / side), on_demand=True) for side in "ab")
    name = "encoder.layer.0.output.dense.weight"
    pg.align(a, b, batches, groups=(), within=Within(room, in_step))
    others = counted[name]
    pg.align(a, b, batches, within=Within(room, in_step))
    assert 0 < counted[name] - 2 * others <= 2 * most


@pytest.mark.parametrize(("kinds", "within"), [("signed", Within(None, 2)), ("all", Within(1, 3))], ids=str)
def test_other_kinds_are_those_of_whole_models(pair, batches, kinds, within):
    sides = [[load(str(pair / side), on_demand=lazy) for side in "ab"] for lazy in (False, True)]
    whole, parts = (
        pg.align(*two, iter(batches), kinds=kinds, within=own)
        for two, own in zip(sides, (Within(), within), strict=True)
    )
    assert parts.certificate
    for name, gain in whole.gains.items():
        assert parts.gains[name].solution == pytest.approx(gain.solution, rel=1e-5), name


def test_too_little_memory_is_refused_before_the_work(pair, tmp_path):
    words = ("align", pair / "a", pair / "b", "--data", pair / "texts", "--out", tmp_path / "out")
    told = run(*words, "--max-memory", "1MB", code=1).stderr
    assert "to compare the activations of the widest groups takes about" in " ".join(told.split())
