"""Models whose heads differ: the trunk is matched and merged, and each head goes on computing with it."""

import copy
import json

import folders
import pytest
import torch
from commands import run
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForSequenceClassification

import permgraph as pg
from permgraph.errors import CheckpointError, OptionError, SpecMismatchError, VerificationError
from permgraph.matching import trunks
from permgraph.symmetry.proof.verification import Certificate


class Trunk(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.norm, self.conv = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 10, 3)

    def forward(self, x):
        return self.conv(self.norm(self.stem(x)).relu()).relu()


class Detector(nn.Module):
    """A box of four numbers, as in every detector, and so many classes."""

    def __init__(self, classes):
        super().__init__()
        self.trunk, self.box, self.kind = Trunk(), nn.Conv2d(10, 4, 1), nn.Conv2d(10, classes, 1)

    def forward(self, x):
        h = self.trunk(x)
        return self.box(h), self.kind(h)


class Deep(nn.Module):
    """A head of two layers of its own width, the last of a fixed size."""

    def __init__(self, width, out=3):
        super().__init__()
        self.trunk, self.first, self.last = Trunk(), nn.Linear(10, width), nn.Linear(width, out)

    def forward(self, x):
        return self.last(self.first(self.trunk(x).mean((2, 3))).relu())


class Tagger(nn.Module):
    """A head that the other model has no tensor of."""

    def __init__(self):
        super().__init__()
        self.trunk, self.tags, self.more = Trunk(), nn.Conv2d(10, 7, 1), nn.Parameter(torch.randn(7, 1, 1))

    def forward(self, x):
        return self.tags(self.trunk(x)) * self.more


PAIRS = {
    # A, B -> names of A's head
    "classes": (lambda: Detector(3), lambda: Detector(5), {"kind.weight", "kind.bias"}),
    "depth": (lambda: Deep(8), lambda: Deep(12), {"first.weight", "first.bias", "last.weight", "last.bias"}),
    "tags": (lambda: Detector(3), Tagger, {"box.weight", "box.bias", "kind.weight", "kind.bias"}),
}


def generic(module):
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape) + 0.5 if "running_var" in name else torch.randn(tensor.shape))
    return module.eval()


def of_one_trunk(a, b):
    """Two such models, the trunk of B a hidden permutation of A's; and its unmoved self."""
    a, b = generic(a()), generic(b())
    b.load_state_dict({n: t for n, t in a.state_dict().items() if n.startswith(("trunk.", "box."))}, strict=False)
    moved, spec = copy.deepcopy(b), pg.derive(b, IMAGES)
    moved.load_state_dict(spec.apply(spec.sample(3), b.state_dict()))
    return a, moved


IMAGES = torch.randn(2, 3, 9, 9)


@pytest.mark.parametrize("with_data", [False, True], ids=["weights", "correlation"])
@pytest.mark.parametrize("pair", PAIRS)
def test_the_trunk_is_recovered_and_both_heads_compute_with_it(pair, with_data):
    torch.manual_seed(0)
    *makers, kept = PAIRS[pair]
    a, b = of_one_trunk(*makers)
    data = [torch.randn(16, 3, 9, 9)] if with_data else None
    aligned = pg.align(a, b, data, args=(IMAGES,), heads="both")
    assert aligned.certificate
    assert (aligned.heads, set(aligned.kept)) == ("both", kept)
    merged = pg.merge(a, b, alignment=aligned, weight=0.3)
    assert all(torch.allclose(tensor, merged[name], atol=1e-6) for name, tensor in a.state_dict().items())
    again = copy.deepcopy(b)
    again.load_state_dict(aligned.state_of_b)
    whole = copy.deepcopy(b)
    whole.load_state_dict({name: (merged | aligned.heads_b)[name] for name in b.state_dict()})
    with torch.no_grad():
        for one in (again, whole):
            torch.testing.assert_close(one(IMAGES), b(IMAGES), rtol=1e-3, atol=1e-3)


def test_what_first_and_merge_do():
    a, b = generic(Detector(3)), generic(Detector(5))
    first = pg.align(a, b, args=(IMAGES,), heads="first")
    assert (first.heads_b, set(first.kept)) == (None, {"kind.weight", "kind.bias"})
    alike = pg.align(a, generic(Detector(3)), args=(IMAGES,), heads="both")
    assert (alike.kept, alike.heads_b) == ((), {})
    with pytest.raises(SpecMismatchError, match=r"kind\.weight: \(3, 10, 1, 1\) in A, \(5, 10, 1, 1\) in B"):
        pg.align(a, b, args=(IMAGES,))


def no_trunk():
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)), nn.Sequential(
        nn.Linear(4, 7), nn.ReLU(), nn.Linear(7, 2)
    )


REFUSED = {
    "no trunk": (no_trunk, torch.randn(2, 4), {}, SpecMismatchError, "share no units that could be matched"),
    "word": (lambda: (Detector(3), Detector(3)), IMAGES, {"heads": "second"}, OptionError, "heads is one of merge"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "inputs", "more", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_refused(make, inputs, more, error, message):
    a, b = (generic(module) for module in make())
    with pytest.raises(error, match=message):
        pg.align(a, b, args=(inputs,), **{"heads": "first"} | more)


def test_a_trunk_that_does_not_move_alike_is_refused(monkeypatch):
    a, b = generic(Detector(3)), generic(Detector(5))
    bad = Certificate(False, 1.0, 1e-8, ("trunk",), 1, 0)
    monkeypatch.setattr(trunks, "certify", lambda *_, **__: bad)
    with pytest.raises(VerificationError, match="the head of B cannot move along"):
        pg.align(a, b, args=(IMAGES,), heads="first")
    monkeypatch.undo()
    monkeypatch.setattr(trunks.torch, "equal", lambda *_: False)
    with pytest.raises(VerificationError, match="the trunks of the two models do not move alike"):
        pg.align(a, b, args=(IMAGES,), heads="first")


CODE = "import torch\nfrom test_two_heads import IMAGES, Detector, generic\n\n" + "\n".join(
    f"def {name}():\n    torch.manual_seed({seed})\n    return generic(Detector({classes})), (IMAGES,), {{}}\n"
    for name, seed, classes in (("three", 1, 3), ("five", 2, 5))
)


@pytest.fixture
def code(tmp_path, monkeypatch):
    (tmp_path / "detectors_of_two_kinds.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    return [f"python:detectors_of_two_kinds:{name}" for name in ("three", "five")]


def test_models_made_by_code_have_two_heads_in_one_folder(code, tmp_path):
    refused = run("merge", *code, "--out", tmp_path / "no", code=1)
    assert "kind.weight" in refused.stderr
    done = run("merge", *code, "--out", tmp_path / "m", "--heads", "both")
    assert "kept from A: kind; moved, and written too: kind of" in done.stdout
    merged, head = (load_file(tmp_path / "m" / f"{name}.safetensors") for name in ("model", "second_head"))
    assert set(head) == {"kind.weight", "kind.bias"}
    Detector(3).load_state_dict(merged)
    Detector(5).load_state_dict(merged | head)
    record = json.loads((tmp_path / "m" / "permgraph.json").read_text())
    assert {record["tensors"][name] for name in head} == {"kept"}
    assert "second_head.safetensors" in (tmp_path / "m" / "README.md").read_text()
    run("align", *code, "--out", tmp_path / "moved", "--heads", "first")
    Detector(5).load_state_dict(load_file(tmp_path / "moved" / "model.safetensors"))
    refused = run("merge", *code, "--base", code[0], "--heads", "both", "--out", tmp_path / "no", code=1)
    assert "leave out --base where heads differ" in refused.stderr


@pytest.fixture(scope="module")
def berts(tmp_path_factory):
    root = tmp_path_factory.mktemp("berts")
    for name, kind, labels in (("three", "Sequence", 3), ("five", "Sequence", 5), ("tags", "Token", 4)):
        folders.bert(root / name, f"BertFor{kind}Classification", num_labels=labels, seed=labels)
    return root


@pytest.mark.parametrize("other", ["five", "tags"])
def test_two_heads_load_by_one_class_and_the_first_as_ever(berts, tmp_path, other):
    run("merge", berts / "three", berts / other, "--weight", 0, "--heads", "both", "--out", tmp_path / "m")
    both = pg.TwoHeads.from_pretrained(tmp_path / "m")
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        first, second = both(ids)
        plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "m").eval()(ids).logits
        alone = pg.load(str(berts / other)).model(ids).logits
    assert torch.allclose(first.logits, plain)
    assert torch.allclose(second.logits, alone, atol=1e-4)  # the trunk is all B's, moved
    tables = [model.bert.embeddings.word_embeddings.weight for model in (both.first, both.second)]
    assert tables[0] is tables[1]


def test_heads_by_word_on_the_command_line(berts, tmp_path):
    folder = tmp_path / "m"
    refused = run("merge", berts / "three", berts / "five", "--heads", "merge", "--out", folder, code=1)
    assert "the heads cannot be merged: classifier.weight is (3, " in refused.stderr
    done = run("merge", berts / "three", berts / "three", "--heads", "first", "--out", folder)
    assert "heads not merged (as --heads first asks)" in done.stdout
    three = [berts / name for name in ("three", "five", "tags")]
    for words, message in (
        ((*three, "--heads", "both"), "--heads both is for two models"),
        ((*three[:2], "--heads", "none"), "--heads is merge, first or both, not 'none'"),
    ):
        assert message in run("merge", *words, "--out", tmp_path / "no", code=2).stderr
    with pytest.raises(CheckpointError, match=r"has second_config\.json but no second_head\.safetensors"):
        pg.TwoHeads.from_pretrained(folder)


@pytest.mark.parametrize("named", [None, [], ["pipeline"], [3]])
def test_a_second_config_that_names_no_model_is_refused(berts, tmp_path, named):
    run("merge", berts / "three", berts / "five", "--heads", "both", "--out", tmp_path / "m")
    path = tmp_path / "m" / "second_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"architectures": named}))
    with pytest.raises(CheckpointError, match=r"second_config\.json: `architectures` names no model of transformers"):
        pg.TwoHeads.from_pretrained(tmp_path / "m")


def test_a_second_head_that_is_damaged_is_refused(berts, tmp_path):
    run("merge", berts / "three", berts / "five", "--heads", "both", "--out", tmp_path / "m")
    (tmp_path / "m" / "second_head.safetensors").write_bytes(b"none")
    with pytest.raises(CheckpointError, match=r"second_head\.safetensors"):
        pg.TwoHeads.from_pretrained(tmp_path / "m")
