"""A model's own tokenizer, feature extractor or image processor, from the files in its folder."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from permgraph.errors import CalibrationError
from permgraph.requirements import unusable

VOCABULARIES = ("tokenizer.json", "vocab*", "*.model", "*.tiktoken")


def load_processor(kind: str, folder: Path) -> Any:
    """`transformers.<kind>.from_pretrained(folder)`, nothing downloaded, and no code in it run or asked for.

    Raises CalibrationError with what it says.
    """
    try:
        loader = getattr(import_module("transformers"), kind)
        return loader.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except ImportError as error:
        raise CalibrationError(
            f"{folder}: its processor ({kind}) needs {unusable('transformers', error, install='permgraph[hub]')}."
        ) from error
    except Exception as error:  # each processor has its own ways to fail
        reason = (str(error).splitlines() or [""])[0]
        raise CalibrationError(
            f"{folder}: its processor ({kind}) cannot be loaded: {type(error).__name__}: {reason}. Put the tokenizer "
            "or preprocessor files of the model in this folder."
        ) from error


def tokenizer_in(folder: Path) -> Any:
    """The tokenizer in `folder`. Raises CalibrationError where there are no files to make one of."""
    if not files_in(folder, VOCABULARIES):
        # transformers would make up an empty vocabulary, and every token would be unknown.
        raise CalibrationError(
            f"{folder}: has no vocabulary ({', '.join(VOCABULARIES)}). Put the tokenizer files there."
        )
    return load_processor("AutoTokenizer", folder)


def files_in(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    """The files in `folder` that match a pattern, each once, sorted."""
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
