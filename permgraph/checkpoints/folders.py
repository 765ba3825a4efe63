"""Output folders that appear whole or not at all."""

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from permgraph.errors import CheckpointError, reason

CHECKPOINT_MARKS = ("permgraph.json", "config.json", "model.safetensors", "model.safetensors.index.json")


def require_free(folder: Path | str, *, force: bool = False) -> None:
    """`folder` may be written: it is absent or empty or, with `force`, a checkpoint that may be replaced.

    Call it before the work starts. `force` never replaces a folder that does not look like a checkpoint, nor one that
    holds the working directory or the home folder. Raises CheckpointError saying which.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"{folder}: is a file, and a folder is to be written. Choose another name.")
    _require_rights(folder)
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not force:
        raise CheckpointError(f"{folder}: is not empty. Choose another folder, or replace this one with --force.")
    target = folder.resolve()
    if any(kept == target or target in kept.parents for kept in (Path.cwd().resolve(), Path.home().resolve())):
        raise CheckpointError(
            f"{folder}: holds the working directory or the home folder, so --force is refused. Choose another folder."
        )
    if not any((folder / mark).is_file() for mark in CHECKPOINT_MARKS):
        raise CheckpointError(
            f"{folder}: is not empty and no checkpoint (none of {', '.join(CHECKPOINT_MARKS)}), so --force is refused. "
            "Choose another folder, or remove this one yourself."
        )


def _require_rights(folder: Path) -> None:
    """Something can be made where `folder` is to appear, or the first folder above it that is to be made."""
    place = next(parent for parent in folder.resolve().parents if parent.exists())
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".permgraph.", dir=place))
    except OSError as error:
        raise CheckpointError(
            f"{folder}: nothing can be written in {place}: {reason(error)}. Choose a place with space and rights."
        ) from error


@contextmanager
def whole_folder(folder: Path | str, *, force: bool = False) -> Iterator[Path]:
    """A temporary sibling of `folder` to write in; it becomes `folder` when the block ends, and is gone if it raises.

    An old folder (see `require_free`) is replaced only then. Raises CheckpointError where the place cannot be written.
    """
    require_free(folder, force=force)
    target = Path(folder).resolve()
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        partial.mkdir(parents=True)
        yield partial
        _swap(partial, target)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder}: cannot be written: {reason(error)}. Choose a place with space and rights."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _swap(partial: Path, target: Path) -> None:
    if not target.exists():
        os.replace(partial, target)
        return
    old = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.old")
    os.replace(target, old)
    try:
        os.replace(partial, target)
    except OSError:
        os.replace(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)
