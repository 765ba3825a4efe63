"""`pg.save`: what is merged in Python is written as a folder that loads, in the dtype and the shards of the model."""

import json

import numpy as np
import pytest
import torch
from folders import bert
from pairs import mlp, spread, vectors
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModel, AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

import permgraph as pg
from permgraph.errors import CheckpointError, SpecMismatchError


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two BERT folders in half precision, loaded, and aligned."""
    root = tmp_path_factory.mktemp("saving")
    for seed, name in enumerate("ab"):
        bert(root / name, seed=seed, dtype="bfloat16")
    a, b = pg.load(root / "a"), pg.load(root / "b")
    return a, b, pg.align(a, b)


def test_a_merge_loads_as_its_model_does(pair, tmp_path):
    a, b, alignment = pair
    merged = pg.merge(a, b, alignment=alignment)
    assert pg.fidelity(merged, a, b, [a.kwargs]).merge < 1
    assert pg.heal(merged, a, b, [a.kwargs], steps=1).keys() == merged.keys()
    out = pg.save(tmp_path / "out", merged, a, alignment=alignment, dtype="float32")
    found = AutoModel.from_pretrained(out).state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in merged.items())
    record = json.loads((out / "permgraph.json").read_text())
    assert record["certificate"]["ok"]
    assert record["permutations"].keys() == alignment.permutations.keys()
    assert (out / "vocab.txt").is_file()
    assert pg.load(out).model(**a.kwargs)


def test_dtype_and_config_are_those_of_the_files(pair, tmp_path):
    a, _, alignment = pair
    out = pg.save(tmp_path / "out", alignment.state_dict, a)
    assert {tensor.dtype for tensor in load_file(out / "model.safetensors").values()} == {a.stored.dtype}
    assert json.loads((out / "config.json").read_text())["dtype"] == str(a.stored.dtype).removeprefix("torch.")


def test_what_a_merge_unties_is_not_tied_in_the_config(tmp_path):
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=23, n_embd=16, n_layer=1, n_head=2, n_positions=32, bos_token_id=0, eos_token_id=0)
    a, b = (spread(GPT2LMHeadModel(config), seed) for seed in range(2))  # norms away from 1
    alignment = pg.align(a, b, kwargs={"input_ids": torch.arange(6)[None]}, kinds="all")
    merged = pg.merge(a, b, alignment=alignment)
    out = pg.save(tmp_path / "out", merged, a, alignment=alignment)
    assert a.config.tie_word_embeddings
    assert json.loads((out / "config.json").read_text())["tie_word_embeddings"] is False
    found = AutoModelForCausalLM.from_pretrained(out).state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in merged.items())
    kept = pg.save(tmp_path / "kept", a.state_dict(), a)
    assert json.loads((kept / "config.json").read_text())["tie_word_embeddings"] is True


def test_a_module_of_ones_own(tmp_path):
    model = mlp()
    out = pg.save(tmp_path / "out", pg.align(model, mlp(), args=(vectors()[0],)).state_dict, model)
    assert load_file(out / "model.safetensors").keys() == model.state_dict().keys()
    assert not (out / "config.json").exists()


def test_what_it_refuses(pair, tmp_path):
    a, _, alignment = pair
    with pytest.raises(SpecMismatchError, match=r"not those of Sequential: 0\.bias.* is in one of the two alone"):
        pg.save(tmp_path / "out", mlp().state_dict(), nn.Sequential())
    with pytest.raises(SpecMismatchError, match=r"not those of Linear: weight has another shape"):
        pg.save(tmp_path / "out", nn.Linear(2, 3).state_dict(), nn.Linear(4, 3))
    for force in (False, True):
        with pytest.raises(CheckpointError, match=r"is the input .*, which must stay as it is"):
            pg.save(a.folder, alignment.state_dict, a, force=force)
    assert list(tmp_path.iterdir()) == []


def test_large_tables_are_beside_the_record(tmp_path, monkeypatch):
    model = mlp()
    alignment = pg.align(model, mlp(), args=(vectors()[0],), kinds="all")
    written = {}
    for most in (2**24, 100):
        monkeypatch.setattr("permgraph.checkpoints.json_arrays.MOST_INLINE", most)
        out = pg.save(tmp_path / str(most), alignment.state_dict, model, alignment=alignment)
        written[most] = out, json.loads((out / "permgraph.json").read_text())
    (inline, record), (out, other) = written.values()
    assert pg.Permutations.from_data(record["permutations"]) == alignment.permutations
    assert pg.Permutations.from_data(other["permutations"], np.load(out / "permgraph.npz")) == alignment.permutations
    assert "permgraph.npz" in other["files"]
    assert not (inline / "permgraph.npz").exists()
    with pytest.raises(CheckpointError, match=r"array 0 of the record is in permgraph\.npz beside it\. Give that file"):
        pg.Permutations.from_data(other["permutations"])
