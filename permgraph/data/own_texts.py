"""Texts that causal models write themselves: which inputs are token ids, and ids sampled for them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

Leaves = Sequence[Any]
Run = Callable[[Leaves], Any]
"""The results of a model for the leaves of its inputs."""

ROUNDS = 32
"""How often all tokens of a text are sampled at once. After r rounds the first r are those of one at a time."""


@dataclass(frozen=True)
class TokenInput:
    """An input of token ids [samples, tokens].

    Attributes:
        leaf: its place among the leaves of the inputs.
        vocabulary: how many ids there are: rows of the table in which they are looked up.
        logits: the place, among the leaves of the results, of predictions [samples, tokens, ids] of the next id; None
            where the model predicts none from the ids before.

    """

    leaf: int
    vocabulary: int
    logits: int | None = None


def token_inputs(run: Run, leaves: Leaves) -> list[TokenInput]:
    """The integer inputs that are looked up in an embedding, without those of small tables, such as types of tokens."""
    tables, results = _looked_up(run, leaves)
    if any(len(sizes) > 1 for sizes in tables.values()) or _are_alike([leaves[k] for k in tables]):
        with suppress(Exception):  # of a model that does not take any ids
            tables = _looked_up(run, _told_apart(leaves, tables))[0] or tables
    rows = {k: min(sizes) for k, sizes in tables.items()}
    texts = [TokenInput(k, size) for k, size in rows.items() if 2 * size >= max(rows.values())]
    return [_with_logits(text, run, leaves, results) for text in texts]


def _looked_up(run: Run, leaves: Leaves) -> tuple[dict[int, set[int]], Any]:
    """Place of each integer input that is looked up -> the sizes of tables that were read at its values; the results.

    Other numbers can have its values, as positions can those of 0, 1, 2, …
    """
    with torch.no_grad(), _Lookups() as seen:
        results = run(leaves)
    found = {
        k: {size for ids, size in seen.found if _same(ids, leaf)} for k, leaf in enumerate(leaves) if _is_integer(leaf)
    }
    return {k: sizes for k, sizes in found.items() if sizes}, results


def _told_apart(leaves: Leaves, places: Collection[int]) -> Leaves:
    """The same with ids of 0 and 1, which most tables have, in an order that no other numbers have."""
    generator, found = torch.Generator().manual_seed(0), list(leaves)
    for k in places:
        shape = leaves[k].shape
        found[k] = torch.randint(2, shape, generator=generator, device="cpu").to(leaves[k])
    return found


def _are_alike(leaves: Leaves) -> bool:
    return any(_same(one, other) for one, other in combinations(leaves, 2))


def generated(model: Any, ids: Tensor, generator: torch.Generator) -> Tensor | None:
    """Ids of the same shape, of which a transformers model generates all after the first, one at a time.

    It keeps what it computed for the ids before, and is much faster than `write`. None where it cannot generate.
    """
    if not callable(getattr(model, "can_generate", None)) or not model.can_generate():
        return None
    from transformers import GenerationConfig

    count, start = ids.shape[1] - 1, ids[:, :1]
    tokens = {"max_new_tokens": count, "min_new_tokens": count, "pad_token_id": 0}
    plain = GenerationConfig(do_sample=True, top_k=0, **tokens)  # type: ignore[no-untyped-call]
    own = copy.copy(model)  # of which nothing but this setting is its own: generate would sample by the model's
    own.generation_config = plain
    seed = int(torch.randint(2**31, (), generator=generator, device="cpu"))
    with torch.random.fork_rng([ids.device] if ids.is_cuda else []), suppress(Exception), torch.no_grad():
        torch.manual_seed(seed)
        found: Tensor = own.generate(start, attention_mask=torch.ones_like(start), generation_config=plain)
        return found.to(ids.dtype) if found.shape == ids.shape else None
    return None  # code of models fails in many ways, and `write` needs only a forward pass


def write(run: Run, leaves: Leaves, text: TokenInput, generator: torch.Generator) -> Tensor:
    """Ids x_t sampled from the predictions p(x_t | x_0 … x_{t-1}) of a causal model, in ROUNDS rounds.

    A round computes the predictions for all t from the ids of the round before, and takes the id at which their sum
    exceeds u_t, the same random number in each round; x_0 stays. The fixed point is what sampling one token after the
    other gives, and it is reached after as many rounds as there are tokens at the latest.
    """
    ids: Tensor = leaves[text.leaf]
    chances = torch.rand(ids.shape[0], ids.shape[1] - 1, 1, generator=generator, dtype=torch.float32, device="cpu").to(
        ids.device
    )
    assert text.logits is not None
    for _ in range(min(ROUNDS, ids.shape[1] - 1)):
        with torch.no_grad():
            results = pytree.tree_leaves(run([*leaves[: text.leaf], ids, *leaves[text.leaf + 1 :]]))
        sums = results[text.logits][:, :-1, : text.vocabulary].float().softmax(-1).cumsum(-1)
        drawn = torch.searchsorted(sums, chances * sums[..., -1:]).squeeze(-1).clamp_max(sums.shape[-1] - 1)
        ids = torch.cat([ids[:, :1], drawn.to(ids.dtype)], dim=1)
    return ids


class _Lookups(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Inside the context, keeps the ids of every lookup in an embedding, and the rows of its table."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[tuple[Tensor, int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.embedding.default:
            self.found.append((args[1], len(args[0])))
        return func(*args, **(kwargs or {}))


def _with_logits(text: TokenInput, run: Run, leaves: Leaves, results: Any) -> TokenInput:
    """The same with the place of the predictions, where the model is causal."""
    ids = leaves[text.leaf]
    named = pytree.tree_leaves_with_path(results)
    fitting = [
        (k, "logits" in pytree.keystr(path))
        for k, (path, leaf) in enumerate(named)
        if isinstance(leaf, Tensor) and leaf.dim() == 3 and leaf.shape[:2] == ids.shape
    ]
    found = [k for k, is_named in fitting if is_named or named[k][1].shape[-1] == text.vocabulary]
    if not found or ids.shape[1] < 2:
        return text
    other = ids.clone()
    other[:, -1] = (ids[:, -1] + 1) % text.vocabulary
    with torch.no_grad():
        changed = pytree.tree_leaves(run([*leaves[: text.leaf], other, *leaves[text.leaf + 1 :]]))[found[0]]
    before, after = (leaf[:, :-1].float() for leaf in (named[found[0]][1], changed))
    is_causal = torch.allclose(before, after, rtol=1e-3, atol=1e-3 * float(before.std()))
    return TokenInput(text.leaf, text.vocabulary, found[0]) if is_causal else text


def _is_integer(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.dim() == 2 and leaf.dtype in (torch.int32, torch.int64)


def _same(ids: Tensor, leaf: Tensor) -> bool:
    return ids.numel() == leaf.numel() and bool((ids.reshape(-1) == leaf.reshape(-1).to(ids.device)).all())
