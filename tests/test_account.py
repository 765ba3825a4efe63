"""Every tensor of every model is accounted for, in the record and in a few lines."""

import json

import folders
import pytest
import torch
from commands import run
from safetensors.torch import load_file, save_file

from permgraph.models.loading import load

WORDS = {"merged", "moved", "kept", "taken", "left out", "unreached"}


def record(folder):
    return json.loads((folder / "permgraph.json").read_text())


def names(folder):
    return set(load_file(folder / "model.safetensors"))


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    root = tmp_path_factory.mktemp("account")
    folders.bert(root / "a", seed=0)
    folders.bert(root / "b", seed=1)
    folders.bert(root / "classifier", "BertForSequenceClassification", seed=2, num_labels=3)
    folders.bert(root / "labels", "BertForSequenceClassification", seed=3, num_labels=5)
    return root


def with_more(source, folder, **tensors):
    folder.mkdir()
    for path in source.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    state = load_file(folder / "model.safetensors")
    save_file(state | tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


PAIRS = {
    "alike": ("merge", "a", "b", {"moved"}, {}),
    "moved alone": ("align", "a", "b", {"moved", "taken"}, {}),
    "some groups": ("merge", "a", "b", {"moved", "merged"}, {}),
    "heads that differ": (
        "merge", "classifier", "labels", {"moved", "merged", "kept"}, {"classifier.weight": "kept"}
    ),
    "a head more in A": ("merge", "classifier", "a", {"moved", "merged", "kept"}, {"classifier.weight": "kept"}),
    "a head more in B": ("merge", "a", "classifier", {"moved", "left out"}, {"classifier.weight": "left out"}),
    "a head that moves along": ("align", "a", "classifier", {"moved", "taken"}, {"classifier.weight": "moved"}),
}  # fmt: skip


@pytest.mark.parametrize(("command", "a", "b", "words", "some"), PAIRS.values(), ids=PAIRS)
def test_every_tensor_of_both_has_a_word(given, tmp_path, command, a, b, words, some):
    options = ("--groups", "attention") if words == {"moved", "merged"} else ()
    done = run(command, given / a, given / b, *options, "--out", tmp_path / "out")
    found = record(tmp_path / "out")
    tensors, reasons = found["tensors"], found["reasons"]
    assert names(given / a) | names(given / b) | names(tmp_path / "out") <= set(tensors)
    assert set(tensors.values()) <= WORDS
    assert words <= set(tensors.values()) | {"merged", "taken"}
    assert {name: tensors[name] for name in some} == some
    assert set(reasons) >= {name for name, word in tensors.items() if word in ("left out", "unreached")}
    assert "tensors: " in done.stdout
    assert len(done.stdout.splitlines()) < 40


def test_what_the_files_hold_more_is_named(given, tmp_path):
    more = {
        "model_ema.decay": torch.tensor(0.9),
        "embeddings.position_ids": torch.arange(40)[None],
        "value_head.weight": torch.ones(1, 32),
    }
    b = with_more(given / "b", tmp_path / "b", **more)
    done = run("merge", given / "a", b, "--groups", "attention", "--out", tmp_path / "out")
    found = record(tmp_path / "out")
    assert {name: found["tensors"][name] for name in ("model_ema.decay", "value_head.weight")} == {
        "model_ema.decay": "left out", "value_head.weight": "left out",
    }  # fmt: skip
    assert found["reasons"]["model_ema.decay"] == "of b: a moving average"
    assert found["reasons"]["value_head.weight"] == "of b: no part of BertModel"
    assert "value_head.weight: of b: no part of BertModel" in done.stdout
    assert set(names(tmp_path / "out")) == names(given / "a")


def test_more_layers_than_the_config_says_are_refused(given, tmp_path):
    b = with_more(given / "b", tmp_path / "b", **{"encoder.layer.2.output.dense.bias": torch.ones(32)})
    assert "not in BertModel: encoder.layer.2.output" in run("verify", b, code=1).stderr


TOWERS = """
import torch
from torch import nn

class Towers(nn.Module):
    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.text, self.image = nn.Sequential(nn.Linear(4, SIZE), nn.ReLU(), nn.Linear(SIZE, 3)), nn.Linear(2, 3)

    def forward(self, text, image=None):
        return self.text(text) if image is None else self.text(text) + self.image(image)

def a():
    return Towers(0), (torch.randn(2, 4),), {}

def b():
    return Towers(1), (torch.randn(2, 4),), {}
"""


@pytest.mark.parametrize(("size", "warned"), [(8, True), (200, False)])
def test_much_that_the_forward_pass_does_not_reach_is_a_warning(tmp_path, monkeypatch, size, warned):
    (tmp_path / f"towers{size}.py").write_text(TOWERS.replace("SIZE", str(size)))
    monkeypatch.chdir(tmp_path)
    done = run("merge", f"python:towers{size}:a", f"python:towers{size}:b", "--out", tmp_path / "out")
    found = record(tmp_path / "out")
    assert found["tensors"]["image.weight"] == "unreached"
    assert "forward pass does not read it" in found["reasons"]["image.weight"]
    assert ("of the numbers of the models are not reached" in done.stderr) is warned
    assert ("image.weight" in done.stderr) is warned


def test_weights_of_a_wrapper_are_read_and_named_as_in_their_file(given, tmp_path):
    b = with_more(given / "b", tmp_path / "b")
    state = {f"_orig_mod.module.{name}": tensor for name, tensor in load_file(b / "model.safetensors").items()}
    (b / "model.safetensors").unlink()
    torch.save({"model": state, "step": 3}, b / "pytorch_model.bin")
    assert load(str(b)).stored.prefix == "module."
    run("merge", given / "a", b, "--groups", "attention", "--out", tmp_path / "out")
    assert set(state) <= set(record(tmp_path / "out")["tensors"])


def test_three_models_are_accounted_for(given, tmp_path):
    run("merge", given / "a", given / "b", given / "classifier", "--groups", "attention", "--out", tmp_path / "out")
    tensors = record(tmp_path / "out")["tensors"]
    assert names(given / "a") | names(given / "classifier") <= set(tensors)
    assert tensors["classifier.weight"] == "left out"


def test_what_others_were_tied_to_is_no_part_that_was_missed(tmp_path):
    sizes = {"d_model": 32, "d_ff": 64, "num_layers": 1, "num_heads": 4, "d_kv": 8, "vocab_size": 50}
    a, b = (
        folders.checkpoint(tmp_path / name, "T5ForConditionalGeneration", sizes, seed=k) for k, name in enumerate("ab")
    )
    done = run("merge", a, b, "--kinds", "all", "--out", tmp_path / "out")
    assert "not reached by the forward pass, so" not in done.stderr
    assert "a place of their own now" in record(tmp_path / "out")["reasons"]["shared.weight"]
