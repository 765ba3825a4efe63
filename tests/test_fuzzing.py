"""Configs, indices, headers and recipes with odd values in them: read, or refused with an error of ours."""

import json
import struct

import folders
import numpy as np
import pytest
import torch
from fuzzing import damaged, mutated
from safetensors.torch import save_file

from permgraph.checkpoints.reading import open_checkpoint
from permgraph.errors import PermgraphError
from permgraph.jobs.recipe import Request, read_recipe
from permgraph.jobs.recipe_inputs import require_trusted
from permgraph.models.loading import load
from permgraph.symmetry.derivation.derive import derive
from permgraph.symmetry.elements.permutations import Permutations

FEW_AND_MANY = [pytest.param(40), pytest.param(4000, marks=pytest.mark.slow)]


def tried(read, *given):
    """Whether something can be read; an error that is not of ours is raised."""
    try:
        read(*given)
    except PermgraphError as error:
        said = str(error)
    else:
        return True
    assert len(said.encode()) < 20_000
    return False


KINDS = {"bert": folders.bert, "vit": folders.vit, "hubert": folders.hubert_ctc}


@pytest.mark.parametrize("count", FEW_AND_MANY)
@pytest.mark.parametrize("kind", KINDS)
def test_configs(tmp_path, kind, count):
    folder = KINDS[kind](tmp_path / "m")
    fields, draw = json.loads((folder / "config.json").read_text()), np.random.default_rng(0)
    for number in range(count):
        (folder / "config.json").write_text(json.dumps(mutated(fields, draw)))
        tried(lambda weights: load(str(folder), weights=weights), bool(number % 4 == 0))


@pytest.mark.parametrize("count", [300, pytest.param(30_000, marks=pytest.mark.slow)])
def test_indices(tmp_path, count):
    names = {f"layer.{k}": f"part-{k % 2}.safetensors" for k in range(4)}
    for part in range(2):
        mine = {name: torch.ones(2) for name, file in names.items() if file == f"part-{part}.safetensors"}
        save_file(mine, tmp_path / f"part-{part}.safetensors")
    index, draw = {"metadata": {"total_size": 32}, "weight_map": names}, np.random.default_rng(0)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert tried(open_checkpoint, tmp_path)
    for _ in range(count):
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(mutated(index, draw)))
        tried(open_checkpoint, tmp_path)


def read_all(folder):
    for tensor in open_checkpoint(folder).values():
        assert tensor.untyped_storage().nbytes() < 10**6


@pytest.mark.parametrize("count", [300, pytest.param(30_000, marks=pytest.mark.slow)])
def test_headers(tmp_path, count):
    path = tmp_path / "model.safetensors"
    save_file({"w": torch.ones(2, 3), "b": torch.zeros(3, dtype=torch.bfloat16), "n": torch.tensor(3)}, path)
    whole, draw = path.read_bytes(), np.random.default_rng(0)
    length = struct.unpack("<Q", whole[:8])[0]
    header, body = json.loads(whole[8 : 8 + length]), whole[8 + length :]
    assert tried(read_all, tmp_path)
    for number in range(count):
        text = json.dumps(mutated(header, draw)).encode()
        content = struct.pack("<Q", len(text)) + text + body if number % 2 else damaged(whole, draw)
        path.write_bytes(content)
        tried(read_all, tmp_path)


RECIPE = {
    "models": ["a", "b"], "data": "texts", "weight": {"attention": 0.5, "default": 0.9}, "merge": "slerp", "mix": 0.5,
    "groups": ["conv"], "steps": 4, "limit": 3, "loss": "own", "seed": 1, "device": "cpu", "threads": 1, "out": "o",
    "sha256": {"a": {"config.json": "0" * 64}},
}  # fmt: skip


def read_and_trust(path):
    require_trusted(read_recipe(path), Request())


@pytest.mark.parametrize("count", [300, pytest.param(30_000, marks=pytest.mark.slow)])
def test_recipes(tmp_path, count):
    pytest.importorskip("yaml")
    path, draw = tmp_path / "r.yaml", np.random.default_rng(0)
    for name in ("a", "b", "texts"):
        (tmp_path / name).mkdir()
    path.write_text(json.dumps(RECIPE))
    assert tried(read_and_trust, path)
    for number in range(count):
        text = json.dumps(mutated(RECIPE, draw)).encode()
        path.write_bytes(text if number % 2 else damaged(text, draw))
        tried(read_and_trust, path)


def read_element(data):
    element = Permutations.from_data(data)
    assert all(0 <= share <= 1 for share in element.moved.values())
    assert str(element)
    assert element.to_data().keys() == data.keys()


@pytest.mark.parametrize("count", [300, pytest.param(30_000, marks=pytest.mark.slow)])
def test_elements_of_records(count):
    block = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 5), torch.nn.ReLU(), torch.nn.Linear(5, 2))
    kinds = {kind: derive(block.eval(), torch.ones(2, 3), kinds=kind) for kind in ("permutation", "all")}
    draw = np.random.default_rng(0)
    for spec in kinds.values():
        written = spec.sample(1).to_data()
        assert tried(read_element, written)
        for _ in range(count):
            tried(read_element, mutated(written, draw))
