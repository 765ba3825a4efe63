"""What counts as the result of a model while it is traced: no caches, and of a model with a head what its head says."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch import nn
from torch.utils import _pytree as pytree

HEAD_ALONE = "_permgraph_head_alone"
"""An attribute of a module of which hidden states do not count as a result; a copy of the module has it too."""
HIDDEN = ("hidden_state", "hidden_states")


def holds_caches(value: Any) -> bool:
    """Whether a result of a model has a cache of keys and values in it."""
    return any(map(_is_cache, pytree.tree_leaves(value)))


def without_caches(model: nn.Module) -> AbstractContextManager[None]:
    """Inside the context a model returns None for each cache: what it would read at the next token is no result."""
    return _returning(model, lambda result: pytree.tree_map(lambda leaf: None if _is_cache(leaf) else leaf, result))


class _HeadAlone:
    """The mark of a module of which the head's results alone count, with what was left out so far; copies share it."""

    def __init__(self) -> None:
        self.left_out: dict[str, None] = {}

    def __deepcopy__(self, memo: Any) -> _HeadAlone:
        return self


def mark_head(model: nn.Module) -> None:
    """Let hidden states that the model returns beside the results of its head not count as results."""
    vars(model)[HEAD_ALONE] = _HeadAlone()


def hold_all(model: nn.Module) -> None:
    """Let all that the model returns count as results again."""
    vars(model).pop(HEAD_ALONE, None)


def is_marked(model: nn.Module) -> bool:
    """Whether the results of a model's head are all that counts."""
    return HEAD_ALONE in vars(model)


def left_out(model: nn.Module) -> str:
    """A sentence that names the results that did not count when the model was traced, or ""."""
    names = list(vars(model)[HEAD_ALONE].left_out) if is_marked(model) else []
    return f"hidden states that the model returns, whose units may move: {', '.join(names)}" if names else ""


def of_head(model: nn.Module, marked: bool = False) -> AbstractContextManager[None]:
    """Inside the context a model that is marked returns no hidden states beside the results of its head."""
    if not (marked or is_marked(model)):
        return nullcontext()
    mark = vars(model).get(HEAD_ALONE) or _HeadAlone()

    def alone(result: Any) -> Any:
        names = _hidden(result)
        mark.left_out.update(dict.fromkeys(names))
        return type(result)(**{name: value for name, value in result.items() if name not in names}) if names else result

    return _returning(model, alone)


def _hidden(result: Any) -> list[str]:
    """The hidden states of an encoder, and the results of towers, in a result of transformers with more in it."""
    if not isinstance(result, Mapping):
        return []
    names = [name for name, value in result.items() if name.endswith(HIDDEN) or isinstance(value, Mapping)]
    return names if len(names) < len(result) else []


@contextmanager
def _returning(model: nn.Module, change: Callable[[Any], Any]) -> Iterator[None]:
    """Inside the context the results of a model are changed."""
    before, forward = vars(model).get("forward"), model.forward

    @functools.wraps(forward)
    def changed(*args: Any, **kwargs: Any) -> Any:
        return change(forward(*args, **kwargs))

    vars(model)["forward"] = changed
    try:
        yield
    finally:
        del vars(model)["forward"]
        if before is not None:
            vars(model)["forward"] = before


def _is_cache(value: Any) -> bool:
    caches = sys.modules.get("transformers.cache_utils")
    return caches is not None and isinstance(value, caches.Cache)
