"""The tokens of a model by its own tokenizer, and the tensors that have an entry for each of them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from permgraph.checkpoints.reading import file_sha256
from permgraph.data.processors import VOCABULARIES, files_in, tokenizer_in
from permgraph.errors import CheckpointError, SpecMismatchError
from permgraph.matching.vocabularies import Vocabulary, differing_tokens, vocabulary_border
from permgraph.models.transformers_models import empty_model

if TYPE_CHECKING:
    from permgraph.models.loaded import LoadedModel

MORE = ("merges.txt", "added_tokens.json", "special_tokens_map.json", "tokenizer_config.json")
TOKEN_INPUTS = ("input_ids", "decoder_input_ids")


def tokens_in(folder: Path | None) -> Mapping[str, int] | None:
    """Token to id, by the tokenizer in `folder`; None where there is none. Raises CalibrationError if it is broken."""
    if folder is None or not files_in(folder, VOCABULARIES):
        return None
    tokens: dict[str, int] = tokenizer_in(folder).get_vocab()
    return tokens


def vocabulary_of(model: LoadedModel) -> Vocabulary | None:
    """The tokens of a model that embeds token ids, if its folder has a tokenizer; None for another model."""
    rows = _rows(model) if any(name in model.kwargs for name in TOKEN_INPUTS) else None
    if rows is None:
        return None
    folder = model.folder
    return Vocabulary(
        model.reference,
        rows,
        cache(lambda: tokens_in(folder)),
        lambda: () if folder is None else tuple(tokenizer_in(folder).get_added_vocab()),
        lambda: _axes(model, rows),
        _files(folder),
    )


def require_one_vocabulary(a: LoadedModel, b: LoadedModel) -> None:
    """Refuse two models whose token tables do not mean the same, row by row.

    Raises SpecMismatchError with the number of tokens that differ and the first of them.
    """
    if vocabulary_border(a.vocabulary, b.vocabulary) is None:
        return
    mine, theirs = ((tokens_in(model.folder) or {}) for model in (a, b))
    raise SpecMismatchError(
        f"the vocabularies of {a.reference} and {b.reference} differ in {differing_tokens(mine, theirs)}, and a model "
        "is enlarged with one tokenizer: give models with one, or of the same sizes, whose tokens are matched by name."
    )


def unsure_tokens(a: LoadedModel, b: LoadedModel) -> str:
    """A warning where only one of two models has a tokenizer; else nothing."""
    one, other = a.vocabulary, b.vocabulary
    if one is None or other is None or one.rows != other.rows:
        return ""
    lacking = [found.name for found in (one, other) if found.files is None]
    return f"{lacking[0]} has no tokenizer: its token ids are taken to mean the same" if len(lacking) == 1 else ""


def add_tokens(folder: Path, source: Path, added: tuple[str, ...], first: int) -> None:
    """Add tokens of the tokenizer in `source` to that in `folder`, with the ids from `first` on.

    Raises CheckpointError where the tokenizer gives them other ids.
    """
    known = {str(token): token for token in tokenizer_in(source).added_tokens_decoder.values()}
    tokenizer = tokenizer_in(folder)
    for token in added:
        one = known.get(token, token)
        tokenizer.add_tokens([one], special_tokens=bool(getattr(one, "special", False)))
    found = [tokenizer.get_vocab().get(token) for token in added]
    if found != list(range(first, first + len(added))):
        raise CheckpointError(
            f"{source}: its tokens {', '.join(added)} cannot be added to the tokenizer of A, which gives them the ids "
            f"{found}. Add them to A's tokenizer and its rows first."
        )
    tokenizer.save_pretrained(folder)


def _rows(model: LoadedModel) -> int | None:
    """The number of rows of a model's token embeddings; None if it does not tell which tensor has them."""
    try:
        return len(model.model.get_input_embeddings().weight)  # type: ignore[operator]
    except (AttributeError, NotImplementedError, TypeError):
        return None


def _axes(model: LoadedModel, rows: int) -> dict[str, int]:
    """The dimensions that are longer in a model of the same config with one token more."""
    module: nn.Module = model.model
    config = copy.deepcopy(module.config)
    sized = [part for part in _parts(config) if getattr(part, "vocab_size", None) == rows]
    if not sized:
        raise SpecMismatchError(
            f"{model.reference}: its config has no `vocab_size` of {rows}, the rows of its token embeddings. "
            "Correct it."
        )
    for part in sized:
        part.vocab_size = rows + 1
    longer = empty_model(type(module), config).state_dict()
    return {
        name: dim
        for name, tensor in module.state_dict().items()
        if name in longer
        for dim, (here, there) in enumerate(zip(tensor.shape, longer[name].shape, strict=True))
        if (here, there) == (rows, rows + 1)
    }


def _parts(config: Any) -> list[Any]:
    inner = [part for part in vars(config).values() if hasattr(part, "to_dict")]
    return [config, *inner]


def _files(folder: Path | None) -> dict[str, str] | None:
    """The hashes of the tokenizer's files; two tokenizers with the same hashes need not be loaded."""
    if folder is None or not files_in(folder, VOCABULARIES):
        return None
    return {path.name: file_sha256(path) for path in files_in(folder, (*VOCABULARIES, *MORE))}
