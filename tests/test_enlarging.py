"""A smaller model becomes one of a larger one's sizes, computes the same, and is found where it was planted."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import folders
import pytest
import torch
from commands import require_error, run
from enlarging_cases import GPT, PAIRS, TOKENS, VECTORS, Deep, bert, generic, gpt2, llama, outputs, pair
from torch import Tensor, nn

import permgraph as pg
from permgraph.models.loading import load

SLOW = ("stream, heads, units, layers",)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in PAIRS])
def test_the_enlarged_model_computes_what_the_smaller_one_does(name: str) -> None:
    a, b, args, kwargs = pair(name)
    found = pg.enlarge(a, b, args, kwargs)
    assert found.max_error <= 1e-8
    assert {n: t.shape for n, t in found.model.state_dict().items()} == {n: t.shape for n, t in a.state_dict().items()}
    assert torch.allclose(outputs(found.model, args, kwargs), outputs(b, args, kwargs), atol=1e-4)
    aligned = pg.align(a, found.model, args=args, kwargs=kwargs)
    moved = copy.deepcopy(a)
    moved.load_state_dict(aligned.state_dict)
    assert aligned.certificate.ok
    assert torch.allclose(outputs(moved, args, kwargs), outputs(b, args, kwargs), atol=1e-4)


@pytest.mark.parametrize("name", ["width", *(pytest.param(n, marks=pytest.mark.slow) for n in ("stream", "heads"))])
def test_an_enlarged_model_is_matched_by_all_kinds(name: str) -> None:
    """A: the enlarged B under an element of all kinds; it is brought back, and B's function stays."""
    a, b, args, kwargs = pair(name)
    larger = pg.enlarge(a, b, args, kwargs).model.double()
    a, args = a.double(), tuple(x.double() for x in args)
    folded = copy.deepcopy(larger)
    folded.load_state_dict(pg.fold(larger, args, kwargs).state_dict)
    spec = pg.derive(folded, args, kwargs, kinds="all")
    a.load_state_dict(spec.apply(spec.sample(2), folded.state_dict()))
    found = pg.compare(a, larger, args=args, kwargs=kwargs)
    assert found.alignment.certificate.ok
    assert found.verdict == "same"


def filled(inside: nn.Module, other: nn.Module) -> dict[str, Tensor]:
    """The weights of `inside`, and those of `other` where they are 0: further units and layers."""
    own = other.state_dict()
    return {n: torch.where(t != 0, t, own[n]) if t.is_floating_point() else t for n, t in inside.state_dict().items()}


def larger(name: str, kinds: str) -> tuple[nn.Module, Mapping[str, tuple[int, ...]]]:
    """A model with a smaller one in it, under an element of its group, and where its layers are."""
    a, b, args, kwargs = pair(name)
    if name in STREAMS:  # further units and layers first, of the smaller width
        middle = generic(STREAMS[name](), 3)
        found = pg.enlarge(middle, b, args, kwargs)
        middle.load_state_dict(filled(found.model, middle))
        a.load_state_dict(pg.enlarge(a, middle, args, kwargs).model.state_dict())
    else:
        found = pg.enlarge(a, b, args, kwargs)
        a.load_state_dict(filled(found.model, a))
    if kinds == "all":
        a.load_state_dict(pg.fold(a, args, kwargs).state_dict)
    spec = pg.derive(a, args, kwargs, kinds=kinds)
    a.load_state_dict(spec.apply(spec.sample(3), a.state_dict()))
    return a, found.layers


STREAMS = {"stream, heads, units, layers": lambda: llama(hidden_size=16)}
PLANTED = (
    "width", "depth", "both", "channels", "gated", "heads", "layers", "fused heads", "images", "post-norm, width",
    *STREAMS,
)  # fmt: skip
QUICK = [("width", "permutation"), ("both", "all"), ("channels", "permutation"), ("gated", "permutation"),
         ("fused heads", "all"), ("images", "permutation"), ("stream, heads, units, layers", "all")]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        pytest.param(name, kinds, marks=[pytest.mark.slow] * ((name, kinds) not in QUICK))
        for name in PLANTED
        for kinds in ("permutation", "all")
        if (name, kinds) != ("channels", "all")  # what A's channels are read by beside B decides about their scales too
    ],
)
def test_a_model_that_lies_in_a_larger_one_is_found(name: str, kinds: str) -> None:
    """A: B in it, under an element of its group, with further units and layers of random weights."""
    a, layers = larger(name, kinds)
    _, b, args, kwargs = pair(name)
    found = pg.enlarge(a, b, args, kwargs, kinds=kinds)
    assert found.layers == layers
    aligned = pg.align(a, found.model, args=args, kwargs=kwargs, kinds=kinds)
    placed = {f"{prefix}{n}." for prefix, places in layers.items() for n in places}
    for n, parameter in a.named_parameters():
        mine, theirs = (state[n].double() for state in (aligned.reference, aligned.state_dict))
        in_b = theirs.abs() > 1e-5 * theirs.abs().max()
        if parameter.is_floating_point() and all(not n.startswith(p) or n.startswith(tuple(placed)) for p in layers):
            assert torch.allclose(mine[in_b], theirs[in_b], rtol=1e-3, atol=1e-4), n


def test_layers_are_found_in_order_where_they_were_planted() -> None:
    a, b = generic(Deep(5, 20), 1), generic(Deep(2, 20), 2)
    for here, there in ((1, 0), (3, 1)):
        a.blocks[here].load_state_dict(b.blocks[there].state_dict())  # type: ignore[index]
    assert pg.enlarge(a, b, (VECTORS,)).layers == {"blocks.": (1, 3)}


REFUSED: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module], Any, type[pg.PermgraphError], str]] = {
    "post-norm, depth": (bert, lambda: bert(num_hidden_layers=1), TOKENS, pg.VerificationError, "not the identity"),
    "other groups of queries": (
        llama, lambda: llama(num_key_value_heads=4, num_attention_heads=4), TOKENS, pg.SpecMismatchError,
        "A the larger model",
    ),
    "a stream after whose sum a norm is": (
        bert, lambda: bert(hidden_size=16), TOKENS, pg.SpecMismatchError,
        r"word_embeddings\.weight has 16 along dim 1 in B and 32 in A, which no group",
    ),
    "a stream with a tied head": (
        gpt2, lambda: gpt2(n_embd=16, n_head=2), TOKENS, pg.SpecMismatchError, "untie a head that is tied",
    ),
    "the larger one": (
        llama, lambda: llama(num_hidden_layers=4), TOKENS, pg.SpecMismatchError,
        r"has 4 layers in B and 3 in A: the larger model is A",
    ),
    "wider": (llama, lambda: llama(intermediate_size=50), TOKENS, pg.SpecMismatchError, "A the larger model"),
    "another class": (llama, gpt2, TOKENS, pg.SpecMismatchError, "is enlarged within one class"),
    "other tensors": (
        lambda: nn.Sequential(nn.Linear(5, 4, bias=False)), lambda: nn.Sequential(nn.Linear(5, 4)),
        {"input": torch.randn(2, 5)}, pg.SpecMismatchError, "tensors of B that A does not have: 0.bias",
    ),
    "another function": (
        lambda: llama(rms_norm_eps=1e-2), lambda: llama(intermediate_size=30), TOKENS, pg.VerificationError,
        "does not compute what B does",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_sizes_that_cannot_be_enlarged_are_refused(name: str) -> None:
    make_a, make_b, kwargs, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        pg.enlarge(generic(make_a(), 1), generic(make_b(), 2), (), kwargs)


def checkpoints(place: Path) -> tuple[Path, Path]:
    a = folders.checkpoint(place / "a", "GPT2LMHeadModel", GPT)
    return a, folders.checkpoint(place / "b", "GPT2LMHeadModel", GPT | {"n_layer": 2, "n_inner": 30}, seed=1)


def test_on_the_command_line(tmp_path: Path) -> None:
    a, b = checkpoints(tmp_path)
    assert run("merge", a, b, "--out", tmp_path / "no", code=1).stderr.startswith("error: ")
    out = " ".join(run("merge", a, b, "--enlarge", "--out", tmp_path / "out").stdout.split())
    assert "B was enlarged to A's sizes: transformer.h: layers of B at" in out
    record = json.loads((tmp_path / "out" / "permgraph.json").read_text())
    assert list(record["enlarged"]["layers"]) == ["transformer.h."]
    assert "enlarge = true" in (tmp_path / "out" / "recipe.toml").read_text()
    run("merge", "--config", tmp_path / "out" / "recipe.toml", "--allow-code", "--out", tmp_path / "again")
    run("align", a, b, "--enlarge", "--out", tmp_path / "moved")
    before, after = (load(str(folder)).model for folder in (b, tmp_path / "moved"))
    assert after.config.n_layer == 3
    assert torch.allclose(outputs(before, (), TOKENS), outputs(after, (), TOKENS), atol=1e-4)
    same = run("merge", a, a, "--enlarge", "--out", tmp_path / "same")
    assert "enlarged" not in same.stdout


NOT_WITH = {
    "a base": (("--base", "A"), 1, "--enlarge reads two models, whole: leave out --base and --max-memory"),
    "little memory": (("--max-memory", "1GB"), 1, "leave out --base and --max-memory"),
    "three models": (("A",), 2, "--enlarge is for two models, and 3 are given"),
}


@pytest.mark.parametrize("name", NOT_WITH)
def test_what_it_does_not_go_with_is_said(tmp_path: Path, name: str) -> None:
    more, code, message = NOT_WITH[name]
    a, b = checkpoints(tmp_path)
    words = ("merge", a, b, *(a if word == "A" else word for word in more), "--enlarge", "--out", tmp_path / "out")
    told = run(*words, code=code).stderr
    assert message in " ".join(told.split())


def test_a_recipe_says_true_or_false(tmp_path: Path) -> None:
    a, b = checkpoints(tmp_path)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f'models = ["{a}", "{b}"]\nenlarge = "yes"\n')
    told = run("merge", "--config", recipe, "--out", tmp_path / "out", code=1)
    require_error(told, "enlarge is 'yes', which cannot be read .true or false is needed")
