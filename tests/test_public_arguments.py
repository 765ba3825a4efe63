"""Every argument of every public name, given something of a wrong type: the error is our own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import torch
from pairs import mlp, plant, vectors

import permgraph as pg
from permgraph.matching import methods as _methods  # noqa: F401 - registers them
from permgraph.matching.match import matcher

X = vectors()[0]
WRONG: tuple[Any, ...] = (None, object(), 5, 1.5, "zz", [], {}, {"a": 1}, (1,), b"x", [None])
OWN_TRACE = {"align", "barrier", "canonical", "compare", "derive", "diff", "fold", "match_many", "verify"}
INTERNAL = {  # called with what this package made
    "Alignment.with_borders", "PermutationSpec.apply_one", "PermutationSpec.on_demand",
}  # fmt: skip


@cache
def values() -> dict[str, Any]:
    """One value of each public class that has methods."""
    planted = plant(mlp(), vectors())
    aligned = pg.align(planted.a, planted.b, planted.batches)
    return {
        "Alignment": aligned,
        "Barrier": pg.barrier(mlp(), mlp(), lambda model: 1.0, weights=3),
        "LoadedModel": pg.load("python:pairs:loaded"),
        "PermutationGroup": planted.spec.groups[0],
        "PermutationSpec": planted.spec,
        "Permutations": aligned.permutations,
        "Placement": pg.match_many([planted.a, planted.b], args=(X,))[1],
    }


@cache
def right() -> dict[str, Any]:
    """A right value for each argument that must be given."""
    known, a, b = values(), mlp(), mlp()
    element, state = known["Permutations"], a.state_dict()
    return {
        "model": a, "model_a": a, "model_b": b, "models": [a, b], "data": [X], "state": state, "state_dict": state,
        "reference": "python:pairs:loaded", "judge": lambda model: 1.0, "like": known["LoadedModel"], "steps": 1,
        "axis": ("0.weight", 0), "permutations": [element, element], "p": element, "q": element, "name": "0.weight",
        "group": "0.hidden", "order": [*range(12)], "remove": {"0.hidden": [0]}, "units": [0], "tensors": state,
        "vector": X[0], "outputs": X, "text": known["PermutationSpec"].to_json(), "seed": 0, "folder": "out",
    }  # fmt: skip


def public() -> Iterator[tuple[str, Callable[..., Any]]]:
    for name in pg.__all__:
        found = getattr(pg, name)
        if not isinstance(found, type):
            yield name, found
        for method in dir(found) if name in values() else ():
            own = None if method.startswith("_") else getattr(values()[name], method)
            if inspect.isroutine(own) and (own.__module__ or "").startswith("permgraph"):
                yield f"{name}.{method}", own


def arguments(name: str, call: Callable[..., Any], meant: str) -> dict[str, Any]:
    """Right values for all arguments that must be given, but for the one that is meant."""
    parameters = inspect.signature(call).parameters
    several = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    needed = [key for key, one in parameters.items() if one.default is one.empty and one.kind not in several]
    given = {key: right()[key] for key in needed if key != meant}
    if "permutations" in given and name.startswith(("PermutationSpec", "Placement")):
        given["permutations"] = values()["Permutations"]
    return given | ({"args": (X,)} if name in OWN_TRACE and meant != "args" else {})


@pytest.mark.parametrize("name", [name for name, _ in public() if name not in INTERNAL])
def test_a_wrong_argument_is_an_error_of_our_own(name: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    call = dict(public())[name]
    monkeypatch.chdir(tmp_path)
    for meant, one in inspect.signature(call).parameters.items():
        for value in WRONG:
            if one.kind in (one.VAR_KEYWORD, one.VAR_POSITIONAL) or value is one.default:
                continue
            given = arguments(name, call, meant) | {meant: value}
            first = [given.pop(key) for key, other in inspect.signature(call).parameters.items()
                     if other.kind == other.POSITIONAL_ONLY and key in given]  # fmt: skip
            try:
                call(*first, **given)
            except pg.PermgraphError:
                pass
            except Exception as error:
                pytest.fail(f"{name}({meant}={value!r}) raises {type(error).__name__}: {error}")


@pytest.mark.parametrize("method", matcher)
def test_a_wrong_option_of_a_method_is_an_error_of_our_own(method: str) -> None:
    a, b, data = mlp(), mlp(), vectors()
    given = {"mix": {"mix": 0.5}, "learned": {"kinds": "all", "steps": 1}}.get(method, {})
    for option in matcher[method].options:
        for value in WRONG:
            try:
                pg.align(a, b, data, method=method, **(given | {option: value}))
            except pg.PermgraphError:
                pass
            except Exception as error:
                pytest.fail(f"{method}, {option}={value!r} raises {type(error).__name__}: {error}")


@pytest.mark.parametrize("seed", [10**18, 2**63 - 1])
def test_a_seed_may_be_as_large_as_the_time(seed: int) -> None:
    a, b = mlp(), mlp()
    assert pg.align(a, b, args=(X,), seed=seed).certificate
    assert pg.verify(a, (X,), seed=seed)
    assert torch.isfinite(pg.synthetic([a], args=(X,), samples=4, seed=seed)[0][0]).all()
    with pytest.raises(pg.OptionError, match=r"below 2\*\*63"):
        pg.verify(a, (X,), seed=seed + 2**63)
