"""The token tables of two models, brought to one axis by token.

The rule. A token that both tokenizers have is merged, whatever its rows are. Rows that only A has, including padding,
are kept from A. Among the tokens that only B has, those that were added to its tokenizer (mostly special tokens) are
taken with their rows and added to A's; the other pieces of B's tokenizer are left out, since A's never produces them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

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


@dataclass(frozen=True)
class Tokens:
    """Where the rows of two token tables or more are on one axis, a border for each table but A's.

    Attributes:
        borders: one for each other model, None where its rows are A's.
        added: for each other model, the tokens that the axis has from it: they follow A's own, model after model.

    """

    borders: tuple[Border | None, ...]
    added: tuple[tuple[str, ...], ...]


def vocabulary_border(a: Vocabulary | None, b: Vocabulary | None) -> tuple[Border, tuple[str, ...]] | None:
    """The border of two token tables, and the tokens that are added to A's; None if all rows mean the same.

    Two models without tokenizers and with the same number of rows are assumed to have the same tokens. Raises
    SpecMismatchError if a tokenizer is missing, or no token is in both.
    """
    found = vocabulary_borders(a, [b])
    border = found.borders[0]
    return None if border is None else (border, found.added[0])


def vocabulary_borders(a: Vocabulary | None, others: Sequence[Vocabulary | None], adding: int | None = None) -> Tokens:
    """The borders of one token table with others, on one axis, to which the first `adding` add tokens; all by default.

    Raises what `vocabulary_border` does.
    """
    read = [None if b is None else _tokens(a, b) for b in others]
    mine = next((pair[0] for pair in read if pair is not None), None)
    if a is None or mine is None:
        return Tokens((None,) * len(others), ((),) * len(others))
    added, known = [], set(mine)
    for number, (b, pair) in enumerate(zip(others, read, strict=True)):
        here = () if b is None or pair is None or (adding is not None and number >= adding) else b.added()
        new = {token: pair[1][token] for token in here if pair and token in pair[1] and token not in known}
        added.append(tuple(sorted(new, key=new.__getitem__)))
        known |= new.keys()
    axis = _Axis(a, mine, tuple(token for tokens in added for token in tokens))
    borders = [None if b is None else _border(axis, b, pair) for b, pair in zip(others, read, strict=True)]
    return Tokens(tuple(borders), tuple(added))


def _tokens(a: Vocabulary | None, b: Vocabulary) -> tuple[Mapping[str, int], Mapping[str, int]] | None:
    """The tokens of both that have a row; None where all rows mean the same."""
    if a is None or (a.rows == b.rows and a.files is not None and a.files == b.files):
        return None
    mine, theirs = a.tokens(), b.tokens()
    if mine is None or theirs is None:
        if a.rows == b.rows:
            return None
        raise _unknown(a, b, [one.name for one, found in ((a, mine), (b, theirs)) if found is None])
    if a.rows == b.rows and mine == theirs:
        return None
    found = [{t: row for t, row in tokens.items() if row < one.rows} for one, tokens in ((a, mine), (b, theirs))]
    return found[0], found[1]


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


@dataclass(frozen=True)
class _Axis:
    """A's rows, then the tokens that others add: behind A's last token, in the place of its padding."""

    a: Vocabulary
    mine: Mapping[str, int]
    added: tuple[str, ...]

    @property
    def first(self) -> int:
        """The place of the first token that is added."""
        return max(self.mine.values()) + 1

    @property
    def size(self) -> int:
        return max(self.a.rows, self.first + len(self.added))

    def of_a(self) -> Tensor:
        places = torch.arange(self.size, device="cpu")
        places[self.a.rows :] = -1
        places[self.first : self.first + len(self.added)] = -1
        return places

    def of(self, tokens: Mapping[str, int] | None) -> Tensor:
        """The rows of another table; of one whose rows are A's, where it has none of the tokens that are added."""
        if tokens is None:
            return self.of_a()
        places = torch.full((self.size,), -1, device="cpu")
        for token, place in (*self.mine.items(), *zip(self.added, range(self.first, self.size), strict=False)):
            places[place] = tokens.get(token, -1)
        return places


def _border(axis: _Axis, b: Vocabulary, pair: tuple[Mapping[str, int], Mapping[str, int]] | None) -> Border | None:
    if pair is None and not axis.added:
        return None
    from_a, from_b = axis.of_a(), axis.of(None if pair is None else pair[1])
    shared = int(((from_a >= 0) & (from_b >= 0)).sum())
    if not shared:
        raise SpecMismatchError(
            f"the vocabularies of {axis.a.name} and {b.name} share no token. Merge models with one tokenizer."
        )
    taken, kept = int(((from_a < 0) & (from_b >= 0)).sum()), int(((from_a >= 0) & (from_b < 0)).sum())
    left = 0 if pair is None else len(pair[1]) - shared - taken
    rule = ", ".join(
        [
            f"tokens of both merged ({shared})",
            *([f"rows of A alone kept ({kept})"] if kept else []),
            *([f"tokens added to B's tokenizer taken ({taken})"] if taken else []),
            *([f"others of B, which A's tokenizer never writes, left out ({left})"] if left else []),
        ]
    )
    return Border("vocabulary", rule, axis.a.axes(), b.axes(), from_a, from_b, axis.a.rows, b.rows)
