"""Weights read as they are needed (`--max-memory`): the same output with little in memory."""

import dataclasses
import json

import pytest
import torch
from commands import run
from folders import bert, checkpoint, hubert_ctc
from safetensors.torch import load_file
from test_saved_form import folder as experts
from test_storage import layout, llama, stored
from test_verification import without

import permgraph as pg
from permgraph.checkpoints import lazy_state
from permgraph.checkpoints.lazy_state import LazyState
from permgraph.checkpoints.open_file import OpenFile
from permgraph.comparing.models import Models
from permgraph.matching.weights import objective
from permgraph.matching.weights.effort import IN_TURN, SIZES
from permgraph.matching.weights.objective import Pairing
from permgraph.models.loading import load

MODELS = {
    "Llama, tied": lambda folder, seed: llama(folder, seed, shard="20KB"),
    "Llama": lambda folder, seed: llama(folder, seed, shard="20KB", tied=False),
    "BERT": lambda folder, seed: bert(folder, seed=seed),
    "HuBERT": lambda folder, seed: hubert_ctc(folder, seed=seed),
    "ResNet": lambda folder, seed: checkpoint(
        folder, "ResNetModel", {"hidden_sizes": [8, 16], "depths": [1, 1], "embedding_size": 8}, seed=seed
    ),
    "Mixtral, renamed": lambda folder, seed: experts(folder, "renamed modules", seed, max_shard_size="3KB"),
    "Qwen2-MoE, a tensor an expert": lambda folder, seed: experts(folder, "a tensor an expert", seed),
}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Folders of a model and of a copy in which an element is planted, with a little noise."""
    root = tmp_path_factory.mktemp("on_demand")
    for name, build in MODELS.items():
        build(root / name / "a", 0)
        plant(root / name / "a", root / name / "b")
    return root


def plant(source, target):
    a = load(str(source))
    spec = pg.derive(a.model, a.args, a.kwargs, outputs=a.outputs, tie=a.tie)
    noise = torch.Generator().manual_seed(1)
    state = spec.apply(spec.sample(1), a.model.state_dict())
    a.model.load_state_dict({
        name: tensor + 1e-3 * torch.randn(tensor.shape, generator=noise) if tensor.is_floating_point() else tensor
        for name, tensor in state.items()
    })  # fmt: skip
    a.model.to(a.stored.dtype).save_pretrained(target, max_shard_size="30KB")


@pytest.mark.parametrize(("command", "name"), [("align", "Llama, tied"), *(("merge", name) for name in MODELS)])
def test_the_output_is_that_of_whole_models(pairs, tmp_path, command, name):
    a, b = pairs / name / "a", pairs / name / "b"
    said = run(command, a, b, "--out", tmp_path / "parts", "--max-memory", "2GB").stdout
    assert "plan: about" in said
    run(command, a, b, "--out", tmp_path / "whole")
    parts, whole = stored(tmp_path / "parts"), stored(tmp_path / "whole")
    assert parts.keys() == whole.keys()
    assert all(torch.equal(parts[name], whole[name]) for name in whole)
    assert layout(tmp_path / "parts") == layout(tmp_path / "whole")
    records = [json.loads((tmp_path / made / "permgraph.json").read_text()) for made in ("parts", "whole")]
    assert records[0]["permutations"] == records[1]["permutations"]
    assert records[0]["tensors"] == records[1]["tensors"]
    assert records[0]["certificate"]["ok"]


@pytest.mark.parametrize(
    ("command", "name", "kinds"),
    [
        pytest.param("merge", "Llama, tied", "all", marks=pytest.mark.slow),
        ("align", "BERT", "all"),
        ("merge", "HuBERT", "signed"),
    ],
)
def test_the_same_in_other_kinds(pairs, tmp_path, command, name, kinds):
    a, b = pairs / name / "a", pairs / name / "b"
    said = run(command, a, b, "--out", tmp_path / "parts", "--max-memory", "2GB", "--kinds", kinds).stdout
    assert "plan: about" in said
    run(command, a, b, "--out", tmp_path / "whole", "--kinds", kinds)
    parts, whole = stored(tmp_path / "parts"), stored(tmp_path / "whole")
    assert layout(tmp_path / "parts") == layout(tmp_path / "whole")
    records = [json.loads((tmp_path / made / "permgraph.json").read_text()) for made in ("parts", "whole")]
    assert records[0]["tensors"] == records[1]["tensors"]
    assert records[0]["untied"] == records[1]["untied"]
    assert records[0]["certificate"]["ok"]
    for group, gain in records[1]["gains"].items():
        assert records[0]["gains"][group]["solution"] == pytest.approx(gain["solution"], rel=1e-3)
    apart = [(parts[name].double() - whole[name].double()).norm() / (whole[name].norm() + 1) for name in whole]
    assert max(apart) < 1e-5


@pytest.mark.parametrize("command", ["merge", pytest.param("align", marks=pytest.mark.slow)])
def test_heads_that_differ(tmp_path, command):
    bert(tmp_path / "a", "BertForSequenceClassification", num_labels=2)
    bert(tmp_path / "b", "BertForTokenClassification", seed=1, num_labels=3)
    for out, more in {"parts": ("--max-memory", "2GB"), "whole": ()}.items():
        said = run(command, tmp_path / "a", tmp_path / "b", "--out", tmp_path / out, *more).stdout
        assert "base models matched" in said or "kept from A" in said
    records = [json.loads((tmp_path / made / "permgraph.json").read_text()) for made in ("parts", "whole")]
    assert records[0]["tensors"] == records[1]["tensors"]
    kept = {name for name, word in records[0]["tensors"].items() if word == "kept"}
    parts, first = stored(tmp_path / "parts"), stored(tmp_path / "a")
    assert all(torch.equal(parts[name], first[name]) for name in kept)
    assert parts.keys() == stored(tmp_path / "whole").keys()


def test_both_heads(tmp_path):
    bert(tmp_path / "a", "BertForSequenceClassification", num_labels=2)
    bert(tmp_path / "b", "BertForTokenClassification", seed=1, num_labels=3)
    for out, more in {"parts": ("--max-memory", "2GB"), "whole": ()}.items():
        run("merge", tmp_path / "a", tmp_path / "b", "--heads", "both", "--out", tmp_path / out, *more)
    for name in ("model", "second_head"):
        parts, whole = (load_file(tmp_path / made / f"{name}.safetensors") for made in ("parts", "whole"))
        assert parts.keys() == whole.keys()
        assert all(torch.equal(parts[key], whole[key]) for key in whole)
    assert "classifier.weight" in parts


def test_three_models(pairs, tmp_path):
    here = pairs / "Llama"
    plant(here / "b", tmp_path / "c")
    three = (here / "a", here / "b", tmp_path / "c")
    run("merge", *three, "--out", tmp_path / "parts", "--max-memory", "2GB")
    run("merge", *three, "--out", tmp_path / "whole")
    parts, whole = stored(tmp_path / "parts"), stored(tmp_path / "whole")
    assert all(torch.equal(parts[name], whole[name]) for name in whole)


def test_no_more_than_a_tensor_is_read_at_a_time(pairs, monkeypatch, tmp_path):
    """Of a folder of many tensors, a few are in memory at a time: every read is of one tensor or its rows."""
    most, read = [0], OpenFile.read_into

    def watched(self, buffer, offset):
        most[0] = max(most[0], len(buffer))
        return read(self, buffer, offset)

    a, b = (load(str(pairs / "Llama" / side), on_demand=True) for side in "ab")
    largest = max(tensor.numel() for tensor in a.weights.like.values())
    monkeypatch.setattr(OpenFile, "read_into", watched)
    assert all(parameter.is_meta for parameter in a.model.parameters())
    alignment = pg.align(a, b, effort=IN_TURN)
    assert isinstance(alignment.state_dict, LazyState)
    assert isinstance(alignment.reference, LazyState)
    assert most[0] <= largest * 2


def test_sites_that_are_cut_give_the_same_sums(pairs, monkeypatch):
    a, b = (load(str(pairs / "Llama" / side), on_demand=True) for side in "ab")
    spec = Models.of((a, b)).derivation((a.args, a.kwargs), "fixed").spec
    whole = Pairing.of(spec, spec.groups, a.weights, b.weights)
    monkeypatch.setattr(objective, "SIZES", dataclasses.replace(SIZES, whole=400))
    cut = Pairing.of(spec, spec.groups, a.weights, b.weights)
    assert len(cut.sites) > len(whole.sites)
    assert cut.size == whole.size
    tables = spec.sample(3)
    assert cut.value(tables) == pytest.approx(whole.value(tables))
    assert cut.unmoved() == pytest.approx(whole.value(spec.identity()))
    one, two = (pg.align(a, b, effort=effort).permutations for effort in (IN_TURN, IN_TURN))
    assert one == two


@pytest.mark.parametrize(
    "name", [*(pytest.param(name, marks=pytest.mark.slow) for name in ("Llama", "BERT")), "ResNet"]
)
def test_a_proof_without_matrices_finds_every_wrong_layout(pairs, name):
    """The proof takes matrices at random, not from the files: a specification that leaves one out is refused."""
    a = load(str(pairs / name / "a"), on_demand=True)
    models = Models.of((a, a))
    batch = (a.args, a.kwargs)
    spec = models.derivation(batch, a.outputs).spec
    element = spec.moving(0, 1)[0]
    assert models.certificate(0, spec, element, batch, 0).ok
    moved = [name for name, layout in spec.layouts.items() if layout.groups and name not in spec.unreached]
    # A key's bias adds the same to all scores of a query, which softmax does not see.
    moved = [name for name in moved if not name.endswith("key.bias") and name not in spec.ties.aliases]
    assert not [name for name in moved if models.certificate(0, without(spec, name), element, batch, 0).ok]


def test_what_is_worked_on_by_rows_is_the_same(pairs, monkeypatch, tmp_path):
    """Written, checked for being finite and compared as relatives, a few rows at a time."""
    a = pairs / "Llama" / "a"
    run("merge", a, a, "--out", tmp_path / "whole", "--max-memory", "2GB")
    monkeypatch.setattr(lazy_state, "AT_ONCE", 100)
    run("merge", a, a, "--out", tmp_path / "rows", "--max-memory", "2GB")
    rows, whole = stored(tmp_path / "rows"), stored(tmp_path / "whole")
    assert all(torch.equal(rows[name], whole[name]) for name in whole)
    records = [json.loads((tmp_path / made / "permgraph.json").read_text()) for made in ("rows", "whole")]
    assert records[0]["related"]["cosine"] == pytest.approx(records[1]["related"]["cosine"], abs=1e-12)
