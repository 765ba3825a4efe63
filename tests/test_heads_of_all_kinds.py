"""Heads that differ, where the trunk is matched by signs, scales and rotations too."""

import copy
import json
from pathlib import Path

import folders
import pytest
import torch
from commands import require_error, run
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

import permgraph as pg
from permgraph.errors import OptionError

X = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
IDS = {"input_ids": torch.arange(1, 19).view(2, 9)}


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(16), nn.Linear(16, 24), nn.Linear(24, 16)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(self.up(self.norm(x)).relu())


class Net(nn.Module):
    """A residual trunk and a head of some classes; the last norm scales what the head reads."""

    def __init__(self, classes: int, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.read, self.block, self.norm = nn.Linear(8, 16), Block(), nn.LayerNorm(16)
        self.head = nn.Linear(16, classes)
        with torch.no_grad():
            for vector in (p for p in self.parameters() if p.dim() == 1):
                vector.add_(0.2 * torch.randn_like(vector))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.block(self.read(x))))


def with_state(model: nn.Module, state: dict[str, Tensor]) -> nn.Module:
    found = copy.deepcopy(model)
    found.load_state_dict(state)
    return found


def planted(kinds: str) -> tuple[nn.Module, nn.Module]:
    """A net of 3 classes, and one of 5 with its trunk, moved by an element of all that leaves it the same function."""
    a, b = Net(3).eval(), Net(5, 1).eval()
    b.load_state_dict(a.state_dict() | {name: t for name, t in b.state_dict().items() if "head" in name})
    if kinds == "all":
        b.load_state_dict(pg.fold(b, X).state_dict)
    spec = pg.derive(b, X, kinds=kinds)
    return a, with_state(b, spec.apply(spec.sample(2), b.state_dict()))


@pytest.mark.parametrize("kinds", ["signed", "all"])
def test_the_trunk_comes_back_and_each_head_goes_on_with_it(kinds: str) -> None:
    a, b = planted(kinds)
    alignment = pg.align(a, b, args=(X,), heads="both", kinds=kinds)
    merged = pg.merge(a, b, alignment=alignment)
    assert alignment.heads_b is not None
    assert torch.allclose(with_state(a, merged)(X), a(X), atol=1e-5)
    assert torch.allclose(with_state(b, merged | dict(alignment.heads_b))(X), b(X), atol=1e-5)
    assert torch.allclose(with_state(b, dict(alignment.state_of_b))(X), b(X), atol=1e-5)
    if kinds == "all":
        assert "centred" in {group.kind for group in alignment.spec.groups}


@pytest.mark.parametrize("kinds", ["permutation", "all"])
def test_trunks_are_compared_where_heads_differ(kinds: str) -> None:
    a, b = planted(kinds)
    found = pg.compare(a, b, args=(X,), kinds=kinds)
    assert (found.verdict, found.heads) == ("same", ("head.weight", "head.bias"))
    assert "head.weight" not in found.tensors
    assert "Not compared, as heads of other shapes: head.weight, head.bias" in str(found)
    if kinds == "permutation":
        assert pg.compare(a, Net(5, 7).eval(), args=(X,), kinds=kinds).verdict != "same"


def three() -> tuple[nn.Module, tuple[Tensor], dict[str, Tensor]]:
    return planted("permutation")[0], (X,), {}


def five() -> tuple[nn.Module, tuple[Tensor], dict[str, Tensor]]:
    return planted("permutation")[1], (X,), {}


def test_the_command_compares_trunks_too() -> None:
    here = f"python:{Path(__file__).stem}"
    result = json.loads(run("compare", f"{here}:three", f"{here}:five", "--json").stdout)
    assert (result["verdict"], result["heads"]) == ("same", "their shapes differ")


def test_task_vectors_move_along_with_a_trunk_that_is_folded() -> None:
    a, b = planted("all")
    tuned = with_state(b, {name: t + 0.01 for name, t in b.state_dict().items()})
    alignment = pg.align(a, b, args=(X,), heads="both", kinds="all")
    name = "block.up.weight"
    vector = {name: tuned.state_dict()[name] - b.state_dict()[name]}
    moved = dict(alignment.state_of_b)
    changed = with_state(b, moved | {name: moved[name] + alignment.apply(vector)[name]})
    assert torch.allclose(changed(X), with_state(b, b.state_dict() | {name: tuned.state_dict()[name]})(X), atol=1e-5)


def test_another_b_is_refused() -> None:
    a, b = planted("all")
    alignment = pg.align(a, b, args=(X,), heads="first", kinds="all")
    with pytest.raises(OptionError, match="model B is not the one that was aligned"):
        pg.merge(a, Net(5, 7).eval(), alignment=alignment)


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("heads")
    for seed, labels in ((0, 3), (1, 5)):
        folders.bert(root / str(labels), "BertForSequenceClassification", seed=seed, num_labels=labels)
    return root


def logits(folder: Path) -> Tensor:
    with torch.no_grad():
        found: Tensor = AutoModelForSequenceClassification.from_pretrained(folder).eval()(**IDS).logits
    return found


def test_folders_keep_both_heads(classifiers: Path, tmp_path: Path) -> None:
    a, b = classifiers / "3", classifiers / "5"
    run("merge", a, b, "--heads", "both", "--kinds", "all", "--weight", "0", "--out", tmp_path / "out")
    both = pg.TwoHeads.from_pretrained(tmp_path / "out")
    with torch.no_grad():
        assert torch.allclose(both.second.eval()(**IDS).logits, logits(b), atol=1e-5)
    assert set(load_file(tmp_path / "out" / "second_head.safetensors")) == {"classifier.weight", "classifier.bias"}
    run("align", a, b, "--kinds", "all", "--out", tmp_path / "aligned")
    assert torch.allclose(logits(tmp_path / "aligned"), logits(b), atol=1e-5)
    assert json.loads((tmp_path / "aligned" / "permgraph.json").read_text())["certificate"]["ok"]


def test_what_does_not_go_with_all_kinds_is_refused(classifiers: Path, tmp_path: Path) -> None:
    more = folders.bert(
        tmp_path / "b", "BertForSequenceClassification", seed=2, num_labels=5, vocab_size=60,
        words=(*folders.WORDS, *(f"x{i}" for i in range(5))),
    )  # fmt: skip
    told = run("align", classifiers / "3", more, "--kinds", "all", "--out", tmp_path / "out", code=1)
    require_error(told, "B's own head moves by permutations alone if vocabularies")
    assert not (tmp_path / "out").exists()
