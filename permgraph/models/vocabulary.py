"""Vocabularies: two models that look tokens up by id can be merged only if every id means the same token in both."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from permgraph.checkpoints.reading import file_sha256
from permgraph.data.processors import VOCABULARIES, files_in, tokenizer_in
from permgraph.errors import SpecMismatchError

if TYPE_CHECKING:
    from permgraph.models.loaded import LoadedModel

MORE = ("merges.txt", "added_tokens.json", "special_tokens_map.json", "tokenizer_config.json")
TOKEN_INPUTS = ("input_ids", "decoder_input_ids")
SHOWN = 3


def vocabulary_of(folder: Path | None) -> Mapping[str, int] | None:
    """Token to id, by the tokenizer in `folder`; None where there is none. Raises CalibrationError if it is broken."""
    if folder is None or not files_in(folder, VOCABULARIES):
        return None
    vocabulary: dict[str, int] = tokenizer_in(folder).get_vocab()
    return vocabulary


def require_one_vocabulary(a: LoadedModel, b: LoadedModel) -> str:
    """Refuse two models that look tokens up by id and do not agree on what the ids mean; returns a warning, or "".

    Raises SpecMismatchError with the number of tokens that differ and the first of them.
    """
    if not any(name in model.kwargs for model in (a, b) for name in TOKEN_INPUTS):
        return ""
    rows = [_rows(model) for model in (a, b)]
    if _same_files(a.folder, b.folder) and rows[0] == rows[1]:
        return ""
    mine, theirs = (vocabulary_of(model.folder) for model in (a, b))
    lacking = [model.reference for model, found in ((a, mine), (b, theirs)) if found is None]
    if rows[0] != rows[1]:
        names = " and of ".join(lacking)
        unknown = f" Without the tokenizer of {names} nobody knows which is which." if lacking else ""
        raise SpecMismatchError(
            f"the vocabularies differ: {a.reference} has {rows[0]} rows of token embeddings, {b.reference} {rows[1]}."
            f"{unknown} Give both as many with `model.resize_token_embeddings(rows)` of transformers, "
            "where the first rows mean the same tokens, or take models of one tokenizer."
        )
    if mine is None or theirs is None:
        return "" if len(lacking) > 1 else f"{lacking[0]} has no tokenizer: its token ids are taken to mean the same"
    differing = [token for token in mine.keys() | theirs.keys() if mine.get(token) != theirs.get(token)]
    differing.sort(key=lambda token: (mine.get(token, len(mine)), theirs.get(token, 0)))
    if differing:
        shown = ", ".join(f"{t!r} ({mine.get(t, 'absent')} and {theirs.get(t, 'absent')})" for t in differing[:SHOWN])
        raise SpecMismatchError(
            f"the vocabularies of {a.reference} and {b.reference} differ in {len(differing)} of "
            f"{len(mine.keys() | theirs.keys())} tokens, as {shown}. Embeddings are looked up by token id, so that "
            "merging would mix different tokens. Merge models with one tokenizer."
        )
    return ""


def _rows(model: LoadedModel) -> int | None:
    """How many tokens a model has embeddings for; None where it does not say which tensor they are in."""
    try:
        return len(model.model.get_input_embeddings().weight)  # type: ignore[operator]
    except (AttributeError, NotImplementedError, TypeError):
        return None


def _same_files(a: Path | None, b: Path | None) -> bool:
    """Whether two folders hold the very same tokenizer files, which saves loading them."""
    if a is None or b is None:
        return False
    found = [{path.name: file_sha256(path) for path in files_in(folder, (*VOCABULARIES, *MORE))} for folder in (a, b)]
    return bool(found[0]) and found[0] == found[1]
