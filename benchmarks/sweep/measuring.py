"""One row of the sweep: a model is built, its groups are derived, and random elements of them applied to it."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from judge import distance, doubled, error, generic
from torch import nn
from zoo_rows import Case
from zoo_table import costs

import permgraph as pg
from permgraph.tracing.exporting import export

TOLERANCE = 1e-8
SINGLE = 1e-3  # for models that compute in float32 whatever they are given


def names(source: str) -> list[str]:
    """All models of a source."""
    if source == "transformers":
        import transformers_models

        return transformers_models.names()
    import vision_models

    return vision_models.timm_names() if source == "timm" else vision_models.torchvision_names()


def build(source: str, name: str) -> Any:
    """(model, args, kwargs)."""
    if source == "transformers":
        import transformers_models

        return transformers_models.build(name)
    import vision_models

    return vision_models.build_timm(name) if source == "timm" else vision_models.build_torchvision(name)


def warm() -> None:
    """Derive a small model once."""
    pg.derive(nn.Linear(2, 2).eval(), torch.zeros(1, 2))


def measure(source: str, name: str) -> Iterator[dict[str, Any]]:
    """The row for permutations, then, where they keep the function, the same row with all kinds."""
    case = _built(source, name)
    if isinstance(case, dict):
        yield case
        return
    yield (row := _permuted(*case))
    if row["outcome"] == "certified" and "judge" not in row:
        yield row | {"all_kinds": _of_all_kinds(*case)}


def build_only(source: str, name: str) -> Iterator[dict[str, Any]]:
    """The class and the size of a model that can be built."""
    case = _built(source, name)
    yield case if isinstance(case, dict) else {"outcome": "not tried", **_size(case[0])}


def times(source: str, name: str) -> Iterator[dict[str, Any]]:
    """The processor seconds of `derive`, and of `torch.export` inside it."""
    case = _built(source, name)
    yield case if isinstance(case, dict) else _timed(*case)[1]


def _built(source: str, name: str) -> Any:
    """(model, args, kwargs), or the row of a model that cannot be built."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    try:
        return build(source, name)
    except Exception as error:
        return {"outcome": "not built", "why": _described(error, 400)}


def _timed(*case: Any) -> tuple[pg.PermutationSpec, dict[str, Any]]:
    start = time.process_time()
    with _exports_timed() as exports:
        spec = pg.derive(*case)
    return spec, {"seconds": round(time.process_time() - start, 2), "export": round(sum(exports), 2)}


def _size(model: nn.Module) -> dict[str, Any]:
    return {"model": type(model).__name__, "parameters": sum(p.numel() for p in model.parameters())}


def _permuted(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    row = _size(model)
    try:
        spec, seconds = _timed(model, args, kwargs)
    except pg.CaptureError as problem:
        return row | {"outcome": "not traced", "why": str(problem)[:400]}
    except Exception as problem:
        return row | {"outcome": "failed", "why": _described(problem, 300)}
    row |= seconds | {
        "groups": len(spec.groups),
        "log10_order": spec.log10_order,
        "coverage": spec.coverage,
        "held_by": [[why, share] for why, share in costs(spec)],
    }
    try:
        found = error(Case(model, args, kwargs), spec, 0)
    except Exception as problem:  # some operations exist in single precision alone: `verify` decides
        found = float("inf")
        row |= {"judge": _described(problem, 200)}
    if not found < TOLERANCE and (found < SINGLE or "judge" in row):
        row["verify"] = _verified(model, args, kwargs, spec)
    certified = found < TOLERANCE or row.get("verify") == "ok"
    refused = "judge" in row and not row["verify"].startswith("the function changes")
    return row | {"outcome": "certified" if certified else "failed" if refused else "unsound", "error": found}


def _verified(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], spec: pg.PermutationSpec) -> str:
    """What `verify` says: ok, the groups that fail, or the error."""
    try:
        certificate = pg.verify(model, args, kwargs, spec=spec, trials=1)
    except Exception as problem:
        return _described(problem, 300)
    return "ok" if certificate.ok else str(certificate)[:300]


def _of_all_kinds(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """What folding a model with generic parameters changes in its function, and what an element of all kinds does."""
    args, kwargs = doubled((args, kwargs))
    model = generic(model, 1)
    try:
        folded = pg.fold(model, args, kwargs)
        kept = copy.deepcopy(model)
        kept.load_state_dict(folded.state_dict)
        start = time.process_time()
        spec = pg.derive(kept, args, kwargs, kinds="all")
        seconds = time.process_time() - start
        folding = _change(model, kept, args, kwargs)
        found = error(Case(kept, args, kwargs), spec, 0)
        verified = {"verify": _verified(kept, args, kwargs, spec)} if TOLERANCE <= found < SINGLE else {}
    except Exception as problem:
        return {"outcome": "failed", "why": _described(problem, 300)}
    certified = folding < SINGLE and (found < TOLERANCE or verified.get("verify") == "ok")
    return verified | {
        "outcome": "certified" if certified else "unsound",
        "error": found,
        "folding": folding,
        "seconds": round(seconds, 2),
        "dimension": spec.dimension,
        "folded": len(folded.folded),
        "kinds": sorted({group.kind for group in spec.groups}),
    }


def _change(one: nn.Module, other: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
    results = []
    for model in (one, other):
        torch.manual_seed(0)
        with torch.no_grad():
            results.append(model(*args, **kwargs))
    return distance(*results)


@contextmanager
def _exports_timed() -> Iterator[list[float]]:
    """The seconds of each `torch.export` inside."""
    found: list[float] = []

    def timed(*args: Any) -> Any:
        start = time.process_time()
        try:
            return export(*args)
        finally:
            found.append(time.process_time() - start)

    with mock.patch("permgraph.tracing.capture.export", timed):
        yield found


def _described(error: Exception, length: int) -> str:
    return f"{type(error).__name__}: {str(error)[:length]}"
