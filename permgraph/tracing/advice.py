"""Explains why a model cannot be traced, and what to change: the inputs, the data, or the model."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from torch.utils import _pytree as pytree

from permgraph.tracing.plain_classes import called
from permgraph.wording import described


def advice(model: nn.Module, error: Exception, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """What prevents a trace on these inputs, and the cure."""
    name = type(model).__name__
    misfit = _misfit(model, args, kwargs)
    if misfit:
        return f"{name}: {misfit}; its forward takes {inspect.signature(model.forward)}"
    if isinstance(error, GuardOnDataDependentSymNode):
        place = source_line(str(error).partition("The following call raised this error:")[2])
        what = f"a branch or a size in {place or 'its forward'} depends on the values of tensors"
        cure = (
            "only what the inputs alone decide can be traced, for a permutation could change the rest: make it static, "
            "as by computing every expert for every token, or make it an input"
        )
        if any(parameter.is_meta for parameter in model.parameters()):
            cure = "there are none on meta: give the model with its weights"
        return f"{name} cannot be traced by torch.export: {what}; {cure}"
    failing = _failing(model, args, kwargs)
    if failing:
        return (
            f"{name} fails on these inputs itself, without being traced: {failing}. They are {_shapes(args, kwargs)}: "
            "give inputs, or batches of data, that it takes"
        )
    first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__).strip()
    what = f"{type(error).__name__}: {first[:400]}"
    cure = "outside of a trace it runs on these inputs: make static what reads tensor values or asks if it is traced"
    return f"{name} cannot be traced by torch.export: {what}; {cure}"


def _misfit(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """How the number or the names of inputs differ from what the model takes; "" if they do not."""
    try:
        inspect.signature(model.forward).bind(*args, **kwargs)
    except TypeError as error:
        count = len(args) + len(kwargs)
        if not count:
            return "no inputs are given to trace it with: give args= or kwargs=, or data"
        return (
            f"{count} {'input is' if count == 1 else 'inputs are'} given, and do not fit ({error}): "
            "give those of its forward alone, "
            "of batches like (inputs, labels) the inputs"
        )
    except ValueError:  # a forward without a signature
        return ""
    return ""


def _failing(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """What the model raises when it is called; "" where it returns."""
    try:
        called(model, args, kwargs)
    except Exception as error:  # whatever a model raises
        return described(error)
    return ""


def _shapes(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    leaves = [leaf for leaf in pytree.tree_leaves((args, dict(kwargs))) if isinstance(leaf, Tensor)]
    return ", ".join(f"{tuple(x.shape)} {str(x.dtype).removeprefix('torch.')}" for x in leaves) or "no tensors"


def source_line(trace: str) -> str:
    """`file.py:12` of the innermost frame outside torch itself, or of the innermost frame."""
    frames = [line.strip() for line in trace.splitlines() if line.strip().startswith("File ")]
    own = [frame for frame in frames if "/torch/" not in frame.replace("\\", "/")]
    if not (own or frames):
        return ""
    parts = (own or frames)[-1].split('"')
    number = parts[2].split("line ")[1].split(",")[0]
    folder, _, file = parts[1].replace("\\", "/").rpartition("/")
    return f"{folder.rpartition('/')[2]}/{file}:{number}"
