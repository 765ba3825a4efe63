"""The token tables of two models, brought to one axis by token.

The rule. A token that both tokenizers have is merged, whatever its rows are. Rows that only A has, including padding,
are kept from A. Among the tokens that only B has, those that were added to its tokenizer (mostly special tokens) are
taken with their rows and added to A's; the other pieces of B's tokenizer are left out, since A's never produces them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from permgraph.errors import SpecMismatchError
from permgraph.matching.borders import Axes, Border

SHOWN = 3


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a model.

    Attributes:
        name: what messages call the model.
        rows: of the token table.
        tokens: token -> row; None where there is no tokenizer.
        added: tokens that were added to the tokenizer's own.
        axes: finds, for every tensor that has an entry for each token, the dimension.
        files: identifies the tokenizer without loading it.

    """

    name: str
    rows: int
    tokens: Callable[[], Mapping[str, int] | None]
    added: Callable[[], tuple[str, ...]]
    axes: Callable[[], Axes]
    files: object = None


def vocabulary_border(a: Vocabulary | None, b: Vocabulary | None) -> tuple[Border, tuple[str, ...]] | None:
    """The border of two token tables, and the tokens that are added to A's; None if all rows mean the same.

    Two models without tokenizers and with the same number of rows are assumed to have the same tokens. Raises
    SpecMismatchError if a tokenizer is missing, or no token is in both.
    """
    if a is None or b is None or (a.rows == b.rows and a.files is not None and a.files == b.files):
        return None
    mine, theirs = a.tokens(), b.tokens()
    if mine is None or theirs is None:
        if a.rows == b.rows:
            return None
        raise _unknown(a, b, [one.name for one, found in ((a, mine), (b, theirs)) if found is None])
    if a.rows == b.rows and mine == theirs:
        return None
    return _border(a, b, mine, theirs)


def differing_tokens(a: Mapping[str, int], b: Mapping[str, int]) -> str:
    """How many tokens have another row or are in one vocabulary alone, and the first of them."""
    names = [token for token in a.keys() | b.keys() if a.get(token) != b.get(token)]
    names.sort(key=lambda token: (a.get(token, len(a)), b.get(token, 0)))
    shown = ", ".join(f"{t!r} ({a.get(t, 'absent')} and {b.get(t, 'absent')})" for t in names[:SHOWN])
    return f"{len(names)} of {len(a.keys() | b.keys())} tokens" + (f", as {shown}" if shown else "")


def _unknown(a: Vocabulary, b: Vocabulary, lacking: list[str]) -> SpecMismatchError:
    return SpecMismatchError(
        f"the vocabularies differ: {a.name} has {a.rows} rows of token embeddings, {b.name} {b.rows}. Rows are matched "
        f"by token, and {' and '.join(lacking)} has no tokenizer. Put the tokenizer's files in its folder, or "
        "give both as many rows with `model.resize_token_embeddings(rows)` of transformers, where the first rows mean "
        "the same tokens."
    )


def _border(
    a: Vocabulary, b: Vocabulary, mine: Mapping[str, int], theirs: Mapping[str, int]
) -> tuple[Border, tuple[str, ...]]:
    mine = {token: row for token, row in mine.items() if row < a.rows}
    theirs = {token: row for token, row in theirs.items() if row < b.rows}
    shared = [token for token in mine if token in theirs]
    if not shared:
        raise SpecMismatchError(
            f"the vocabularies of {a.name} and {b.name} share no token. Merge models with one tokenizer."
        )
    new = [token for token in b.added() if token in theirs and token not in mine]
    added = tuple(sorted(new, key=theirs.__getitem__))
    first = max(mine.values()) + 1
    size = max(a.rows, first + len(added))
    from_a, from_b = torch.arange(size), torch.full((size,), -1)
    from_a[a.rows :] = -1
    from_b[[mine[token] for token in shared]] = torch.tensor([theirs[token] for token in shared])
    for place, token in enumerate(added, first):
        from_a[place], from_b[place] = -1, theirs[token]
    kept = int((from_b < 0).sum())
    left = len(theirs) - len(shared) - len(added)
    rule = ", ".join(
        [
            f"tokens of both merged ({len(shared)})",
            *([f"rows of A alone kept ({kept})"] if kept else []),
            *([f"tokens added to B's tokenizer taken ({len(added)})"] if added else []),
            *([f"others of B, which A's tokenizer never writes, left out ({left})"] if left else []),
        ]
    )
    return Border("vocabulary", rule, a.axes(), b.axes(), from_a, from_b, a.rows, b.rows), added
