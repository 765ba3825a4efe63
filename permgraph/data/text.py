"""Calibration text: plain text, JSON lines and Parquet tables, packed into rows of tokens without any padding."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from permgraph.data.batches import files_with, shuffled
from permgraph.errors import CalibrationError
from permgraph.requirements import unusable
from permgraph.wording import reason

TOKENS = 128
MOST_TOKENS = 2_000_000
"""Reading stops here: more text than correlations need would only fill the memory."""
PIECE = 1 << 18
"""Letters that are tokenized at once."""
FIELDS = ("text", "content", "sentence")


def token_rows(
    data: Path, tokenizer: Any, length: int, *, seed: int = 0, notes: list[str] | None = None
) -> list[list[int]]:
    """Rows of `length` token ids with the tokenizer's special tokens around them, shuffled by `seed`.

    The texts of all files are joined and cut into whole rows, so that nothing has to be padded or masked. `notes` is
    told where not all of them were read.
    Raises CalibrationError for a folder without text, a file that cannot be read, and less text than one row.
    """
    with_ends, plain = (tokenizer("a", add_special_tokens=ends)["input_ids"] for ends in (True, False))
    start = next((i for i in range(len(with_ends)) if with_ends[i : i + len(plain)] == plain), 0)
    head, tail = with_ends[:start], with_ends[start + len(plain) :]
    size = length - len(head) - len(tail)
    if size < 1:
        raise CalibrationError(
            f"{data}: the model has {length} positions, and the special tokens of its tokenizer take "
            f"{len(head) + len(tail)}: no text fits. Match by weights (omit the data)."
        )
    ids: list[int] = []
    for text in chain.from_iterable(read_texts(path) for path in files_with(data, tuple(READERS), "text")):
        ids += tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        if len(ids) >= MOST_TOKENS:
            if notes is not None:
                notes.append(f"{data}: texts were read up to {MOST_TOKENS:,} tokens")
            break
    rows = [[*head, *ids[i : i + size], *tail] for i in range(0, len(ids) - size + 1, size)]
    if not rows:
        raise CalibrationError(f"{data}: {len(ids)} tokens of text are less than one row of {size}. Add text.")
    return shuffled(rows, seed)


def read_texts(path: Path) -> Iterator[str]:
    """The texts in a file. Raises CalibrationError naming a file, and the line or column, that holds none."""
    try:
        yield from READERS[path.suffix.lower()](path)
    except UnicodeDecodeError as error:
        raise CalibrationError(
            f"{path}: cannot be read as UTF-8 text: {reason(error)}. Convert or remove it."
        ) from error
    except OSError as error:
        raise CalibrationError(f"{path}: cannot be read: {reason(error)}. Repair or remove it.") from error


def _plain(path: Path) -> Iterator[str]:
    """The text in pieces of whole lines, so that a large file is not in memory at once, as text and as tokens."""
    with path.open(encoding="utf-8") as file:
        while piece := file.read(PIECE):
            yield piece + file.readline(PIECE)


def _json_lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise CalibrationError(
                    f"{path}, line {number}: is not JSON: {reason(error)}. Write one object a line, or rename the "
                    "file to .txt."
                ) from error
            yield _text_of(record, f"{path}, line {number}")


def _parquet(path: Path) -> Iterator[str]:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise CalibrationError(
            f"{path}: reading Parquet needs {unusable('pyarrow', error, install='permgraph[text]')}."
        ) from error
    try:
        with parquet.ParquetFile(path) as table:
            names = [field.name for field in table.schema_arrow if _is_text(pyarrow.types, field.type)]
            wanted = [name for name in FIELDS if name in names][:1] or names
            if not wanted:
                found = ", ".join(f"{field.name}: {field.type}" for field in table.schema_arrow)
                raise CalibrationError(f"{path}: has no column of text ({found}). Name the column of text `text`.")
            for batch in table.iter_batches(batch_size=256, columns=wanted):
                for record in batch.to_pylist():
                    yield _text_of({key: value for key, value in record.items() if value is not None} or "", path)
    except pyarrow.ArrowException as error:
        raise CalibrationError(f"{path}: cannot be read as Parquet: {reason(error)}. Repair or remove it.") from error


def _is_text(types: Any, kind: Any) -> bool:
    if types.is_dictionary(kind):
        return _is_text(types, kind.value_type)
    views = getattr(types, "is_string_view", None)
    return bool(types.is_string(kind) or types.is_large_string(kind) or (views is not None and views(kind)))


def _text_of(record: Any, where: object) -> str:
    """A string itself; of an object `text`, `content` or `sentence`, else all its strings, one below the other.

    Half of a surrogate pair, which is no text, becomes a question mark.
    """
    if isinstance(record, str):
        return record.encode("utf-8", "replace").decode("utf-8")
    if isinstance(record, Mapping):
        named = [record[name] for name in FIELDS if isinstance(record.get(name), str)]
        texts = named[:1] or [value for value in record.values() if isinstance(value, str)]
        if texts:
            return _text_of("\n".join(texts), where)
    raise CalibrationError(f"{where}: holds no text: neither a string nor an object with one. Name the field `text`.")


READERS: Mapping[str, Callable[[Path], Iterator[str]]] = {
    ".txt": _plain,
    ".md": _plain,
    ".jsonl": _json_lines,
    ".parquet": _parquet,
}
