"""What counts as the result of a model while it is traced: no caches, and of a model with a head what its head says."""

from __future__ import annotations

import copy
import functools
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch import nn
from torch.utils import _pytree as pytree

from permgraph.errors import CaptureError
from permgraph.tracing.wrappers import require_plain
from permgraph.wording import few

COUNTED = "_permgraph_counted"
"""An attribute of a module of which not all results count; a copy of the module has it too."""
KEY = re.compile(r"\['([^']*)'\]")
HIDDEN = ("hidden_state", "hidden_states")


def holds_caches(value: Any) -> bool:
    """Whether a result of a model has a cache of keys and values in it."""
    return any(map(_is_cache, pytree.tree_leaves(value)))


def without_caches(model: nn.Module) -> AbstractContextManager[None]:
    """Inside the context a model returns None for each cache: what it would read at the next token is no result."""
    return _returning(model, lambda result: pytree.tree_map(lambda leaf: None if _is_cache(leaf) else leaf, result))


class Counted:
    """The mark of a module of which some results alone count, with what was left out so far; copies share it.

    Attributes:
        wanted: names of results, or places in a tuple; (): all but hidden states beside the results of a head.
        left_out: names of those that were left out.

    """

    def __init__(self, wanted: tuple[str | int, ...] = ()) -> None:
        self.wanted, self.left_out = wanted, dict[str, None]()

    def __deepcopy__(self, memo: Any) -> Counted:
        return self

    def of(self, result: Any) -> Any:
        """What counts of a result. Raises CaptureError where a result that is wanted is not there."""
        known: dict[Any, Any] = dict(enumerate(result)) if type(result) is tuple else {}
        known = dict(result) if isinstance(result, Mapping) else known
        if missing := [name for name in self.wanted if name not in known]:
            names = f"its results are {few([*map(repr, known)])}" if known else "it returns no results by name"
            raise CaptureError(f"the model has no result {missing[0]!r}: {names}")
        over = [name for name in known if name not in self.wanted] if self.wanted else hidden(known)
        self.left_out.update(dict.fromkeys(map(str, over)))
        kept = {name: value for name, value in known.items() if name not in over}
        if not over:
            return result
        return type(result)(**kept) if isinstance(result, Mapping) else tuple(kept.values())


def returning(model: nn.Module, *results: str | int) -> nn.Module:
    """The same model, of whose results these alone count: give it to every function in place of the model.

    A model with a head often returns more: encoders of T5 and BART their hidden states, CLIP those of both towers. All
    that a model returns is held fixed, and with its hidden states the residual stream, which then cannot be matched. Of
    `returning(t5, "logits")` the logits alone are held. What it returns when it is called does not change.

    Args:
        model: a model that returns a mapping, as those of transformers do, or a tuple; it is not changed.
        results: names in the mapping, or places in the tuple. None: all but hidden states that a model of transformers
            returns beside the results of its head, as of a model from `load`.

    Returns:
        A module that shares the weights and the parts of `model`.

    Raises:
        CaptureError: what is given is no module; and where it is traced, if the model has no such result.

    """
    other = copy.copy(require_plain(model))
    vars(other)[COUNTED] = Counted(results)
    return other


def mark_head(model: nn.Module) -> None:
    """Let hidden states that the model returns beside the results of its head not count as results."""
    vars(model).setdefault(COUNTED, Counted())


def hold_all(model: nn.Module) -> None:
    """Let all that the model returns count as results again."""
    vars(model).pop(COUNTED, None)


def counted(model: nn.Module) -> Counted | None:
    """The mark of a model of which some results alone count."""
    return vars(model).get(COUNTED)


def left_out(model: nn.Module) -> str:
    """A sentence that names the results that did not count when the model was traced, or ""."""
    mark = counted(model)
    if mark is None or not mark.left_out:
        return ""
    what = "results" if mark.wanted else "hidden states"
    return f"{what} that the model returns, whose units may move: {', '.join(mark.left_out)}"


def of_counted(model: nn.Module, mark: Counted | None) -> AbstractContextManager[None]:
    """Inside the context a model returns only the results that count."""
    return nullcontext() if mark is None else _returning(model, mark.of)


def hidden(results: Mapping[Any, Any]) -> list[Any]:
    """The hidden states of an encoder, and the results of towers, in results of transformers with more in them."""
    names = [name for name, value in results.items() if str(name).endswith(HIDDEN) or isinstance(value, Mapping)]
    return names if len(names) < len(results) else []


def hidden_beside_logits(places: Iterable[str]) -> list[str]:
    """The names of hidden states, from the places of all tensors in what a model returns; [] if it has no logits."""
    keys = [KEY.findall(place) for place in places]
    names: dict[str, Any] = {key[0]: {} if len(key) > 1 else None for key in keys if key}
    return hidden(names) if any("logits" in name for name in names) else []


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
