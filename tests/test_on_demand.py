"""Weights read as they are needed (--max-memory): the same output, little in memory, and what is refused."""

import dataclasses
import json

import pytest
import torch
from commands import run
from folders import bert, checkpoint, hubert_ctc
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from test_storage import SMALL, layout, llama, stored
from test_verification import without
from torch import nn

import permgraph as pg
from permgraph.checkpoints import lazy_state
from permgraph.checkpoints.lazy_state import LazyState, each_once, small_part
from permgraph.checkpoints.open_file import OpenFile
from permgraph.checkpoints.safetensors_writing import write_safetensors
from permgraph.comparing.models import Models
from permgraph.errors import AdapterError, CheckpointError
from permgraph.matching.weights import objective
from permgraph.matching.weights.effort import IN_TURN, SIZES
from permgraph.matching.weights.objective import Pairing
from permgraph.models.loading import load
from permgraph.models.transformers_models import hollow_model

MODELS = {
    "Llama, tied": lambda folder, seed: llama(folder, seed, shard="20KB"),
    "Llama": lambda folder, seed: llama(folder, seed, shard="20KB", tied=False),
    "BERT": lambda folder, seed: bert(folder, seed=seed),
    "HuBERT": lambda folder, seed: hubert_ctc(folder, seed=seed),
    "ResNet": lambda folder, seed: checkpoint(
        folder, "ResNetModel", {"hidden_sizes": [8, 16], "depths": [1, 1], "embedding_size": 8}, seed=seed
    ),
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
        assert "base models matched" in said or "kept from the first model" in said
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
    """Of a folder of many tensors, the numbers alive are those of a few: every read is of one tensor or its rows."""
    most, read = [0], OpenFile.read_into

    def watched(self, buffer, offset):
        most[0] = max(most[0], len(buffer))
        return read(self, buffer, offset)

    a, b = (load(str(pairs / "Llama" / side), on_demand=True) for side in "ab")
    largest = max(tensor.numel() for tensor in a.weights.like.values())
    monkeypatch.setattr(OpenFile, "read_into", watched)
    assert all(parameter.is_meta for parameter in a.model.parameters())
    found = pg.align(a, b, effort=IN_TURN)
    assert isinstance(found.state_dict, LazyState)
    assert isinstance(found.reference, LazyState)
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


def test_matrices_of_a_proof_are_not_read():
    state = {"matrix": torch.ones(2, 2), "vector": torch.ones(2), "table": torch.ones(2, 2, dtype=torch.long)}
    like = {name: tensor.to("meta") for name, tensor in state.items()}
    part = small_part(LazyState(like, state.__getitem__))
    assert {name: tensor.is_meta for name, tensor in part.items()} == {"matrix": True, "vector": False, "table": False}
    assert small_part(state) is state


def test_a_lazy_state_is_a_mapping_that_keeps_nothing():
    made = []
    like = {"x": torch.empty(3, device="meta")}
    state = LazyState(like | {"y": like["x"]}, lambda name: made.append(name) or torch.arange(3.0))
    assert (len(state), list(state), "x" in state, "z" in state) == (2, ["x", "y"], True, False)
    assert state["x"] is not state["x"]
    assert torch.equal(state.rows("x", 1, 3), torch.tensor([1.0, 2.0]))
    with pytest.raises(KeyError):
        state["z"]
    assert torch.equal(each_once(state, lambda name: state[name] * 2)["y"], 2 * torch.arange(3.0))
    assert made[-1] == "x"  # the first of two names of one tensor


def test_files_written_are_those_of_safetensors(tmp_path):
    state = {
        "b": torch.randn(3, 5).T, "a": torch.randn(2, dtype=torch.float64), "c": torch.ones(3, dtype=torch.bool),
        "ö": torch.randn(4).bfloat16(), "e": torch.empty(0, 3), "s": torch.tensor(2),
    }  # fmt: skip
    known = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in state.items()}
    parts = {name: tensor.split(1) if tensor.dim() else [tensor] for name, tensor in state.items()}
    write_safetensors(tmp_path / "x.safetensors", known, parts.__getitem__, {"also": "a"})
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", "also": "a"}
    read = load_file(tmp_path / "x.safetensors")
    assert read.keys() == state.keys()
    assert all(torch.equal(read[name], tensor) and read[name].dtype == tensor.dtype for name, tensor in state.items())
    with pytest.raises(CheckpointError, match="which safetensors cannot hold"):
        write_safetensors(tmp_path / "y.safetensors", {"x": ((), torch.complex128)}, lambda name: [], {})


def pickled(folder):
    state = stored(folder)
    for path in folder.glob("*.safetensors*"):
        path.unlink()
    torch.save(state, folder / "pytorch_model.bin")


def renamed(folder):
    state = stored(folder)
    for path in folder.glob("*.safetensors*"):
        path.unlink()
    state["model.more.weight"] = state.pop("model.norm.weight")
    state["model.layers.7.mlp.up_proj.weight"] = torch.ones(3)
    state["lm_head.weight"] = state["lm_head.weight"][1:].clone()
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


REFUSED = {
    "pickled weights": (pickled, ("2GB",), r"pytorch_model.bin can only be read as a whole"),
    "other names": (renamed, ("2GB",), r"do not fit LlamaForCausalLM as they are stored: of another shape: lm_head"),
    "too little memory": (None, ("1MB",), r"--max-memory 1 MB is too little"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(pairs, tmp_path, name):
    change, more, expected = REFUSED[name]
    llama(tmp_path / "b", 1, tied=False)
    if change is not None:
        change(tmp_path / "b")
    result = run(
        "merge", pairs / "Llama" / "a", tmp_path / "b", "--out", tmp_path / "out", "--max-memory", *more, code=1
    )
    assert expected.replace("\\", "") in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("reference", ["python:pairs:mlp", "timm:resnet18"])
def test_models_made_by_code_are_refused(reference):
    with pytest.raises(CheckpointError, match="is made whole in memory"):
        load(reference, on_demand=True)


def test_a_folder_of_timm_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet18", "pretrained_cfg": {}}))
    with pytest.raises(CheckpointError, match="timm's models are made whole in memory"):
        load(str(tmp_path), on_demand=True)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--max-memory", "much"), "a size is a number"),
        (("--max-memory", "2GB", "--data", ".", "--mix", "0.5"), "by weights or by correlation"),
        (("--max-memory", "2GB", "--data", ".", "--kinds", "all"), "matches permutations by data"),
        (("--max-memory", "2GB", "--data", ".", "--merge", "repair"), "runs merged models whole"),
        (("--max-memory", "2GB", "--device", "cuda"), "computes on the CPU"),
        (("--max-memory", "2GB", "--loss", "m:f"), "reads them in parts"),
    ],
)
def test_usage(words, expected):
    result = run("merge", "a", "b", "--out", "c", *words, code=2)
    assert expected in " ".join(result.stderr.split())


def test_a_hollow_model_has_its_buffers_and_no_weights():
    from transformers import LlamaConfig, LlamaForCausalLM

    model = hollow_model(LlamaForCausalLM, LlamaConfig(**SMALL))
    assert all(parameter.is_meta for parameter in model.parameters())
    whole = LlamaForCausalLM(LlamaConfig(**SMALL))
    for (name, buffer), (other, wanted) in zip(model.named_buffers(), whole.named_buffers(), strict=True):
        assert name == other
        assert torch.equal(buffer, wanted)
    assert not nn.Linear(2, 2).weight.is_meta  # the hook is gone
    config = LlamaConfig(**SMALL)
    config.vocab_size = -1
    with pytest.raises(AdapterError, match=r"cannot be built from config\.json"):
        hollow_model(LlamaForCausalLM, config)


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
