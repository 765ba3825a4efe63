"""Output folders that are written completely or not at all, and replace only what permgraph wrote."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from permgraph.checkpoints.json_files import read_json
from permgraph.checkpoints.moving import exchange, exchange_back, sync, sync_tree
from permgraph.checkpoints.overlap import require_apart
from permgraph.checkpoints.sharding import size_of
from permgraph.checkpoints.workshop import RECORD, Workshop, clear_leftovers, stem_of
from permgraph.errors import CheckpointError
from permgraph.wording import few, reason

LAST = ("config.json", RECORD)
"""Moved last, in this order: without them nothing loads the folder, and its files are known to be permgraph's."""


def require_free(folder: Path | str, *, force: bool = False, inputs: Iterable[Path | str] = ()) -> None:
    """Check that `folder` is absent, empty or, with `force`, contains only what permgraph wrote.

    Call this before the work starts. The folder must not overlap with any of `inputs`. Leftovers of a killed run next
    to it are removed. Raises CheckpointError saying what is in the way.
    """
    folder = Path(folder)
    with _said_of(folder):
        require_apart(folder, [Path(given) for given in inputs])
        target = folder.resolve()
        if target.exists() and not target.is_dir():
            raise CheckpointError(f"{folder}: is a file, and a folder is to be written. Choose another name.")
        clear_leftovers(target)
        _require_rights(folder, target)
        if _is_empty(target):
            return
        if not force:
            raise CheckpointError(f"{folder}: is not empty. Choose another folder, or replace this one with --force.")
        if any(kept == target or target in kept.parents for kept in (Path.cwd().resolve(), Path.home().resolve())):
            raise CheckpointError(
                f"{folder}: holds the working directory or the home folder, so --force is refused. Choose another "
                "folder."
            )
        if target.is_mount():
            raise CheckpointError(f"{folder}: is a mount, which cannot be replaced as a whole. Choose a folder in it.")
        _require_ours(folder, target)


def require_space(folder: Path | str, count: int) -> None:
    """Raise CheckpointError, with the free space, if there is no room for `count` bytes where `folder` will be."""
    target = Path(folder).resolve()
    place = next(path for path in (target, *target.parents) if path.exists())
    free = shutil.disk_usage(place).free
    if count > free:
        raise CheckpointError(
            f"{folder}: about {size_of(count)} are to be written, and {place} has {size_of(free)} free. Choose a place "
            "with space."
        )


@contextmanager
def whole_folder(folder: Path | str, *, force: bool = False, inputs: Iterable[Path | str] = ()) -> Iterator[Path]:
    """A temporary folder to write in; it becomes `folder` when the block ends, and is removed if it raises.

    It is next to `folder`, or inside it if that exists and is empty (a mount, the working directory). An old folder
    is replaced only at the end, after `require_free` has looked again. Raises CheckpointError where the place cannot
    be written.
    """
    inputs = list(inputs)
    require_free(folder, force=force, inputs=inputs)
    with _said_of(folder):
        target = Path(folder).resolve()
        within = target.is_dir() and _is_empty(target)
        (target if within else target.parent).mkdir(parents=True, exist_ok=True)
        workshop = Workshop(target, "permgraph") if within else Workshop(target.parent, stem_of(target))
        try:
            yield workshop.path
            _seal(workshop.path)
            (_move_out if within else _swap)(workshop.path, target, force)
            sync(target if within else target.parent)
        finally:
            workshop.close()


def foreign(folder: Path) -> list[str]:
    """What others put into a folder that permgraph wrote, as paths below it.

    Raises CheckpointError where the folder has no list of what permgraph wrote.
    """
    own = read_json(folder / RECORD).get("files")
    if not isinstance(own, list):
        raise CheckpointError(f"{folder / RECORD}: has no list of files. Permgraph did not write it.")
    above = {str(parent) for name in own for parent in Path(str(name)).parents}
    return [name for name in _inside(folder) if name not in own and (name not in above or (folder / name).is_symlink())]


@contextmanager
def _said_of(folder: Path | str) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:  # a loop of links, a NUL in the name
        if isinstance(error, RuntimeError | ValueError) and not _names_a_path(error):
            raise
        raise CheckpointError(
            f"{folder}: cannot be written: {reason(error)}. Choose a place with space and rights."
        ) from error


def _names_a_path(error: Exception) -> bool:
    return str(error).startswith(("Symlink loop", "embedded null"))


def _is_empty(target: Path) -> bool:
    return not target.is_dir() or not any(target.iterdir())


def _require_ours(folder: Path | str, target: Path) -> None:
    advice = "so --force is refused. Choose another folder, or remove this one yourself."
    if not (target / RECORD).is_file():
        raise CheckpointError(f"{folder}: is not empty and has no {RECORD}: permgraph did not write it, {advice}")
    try:
        more = foreign(target)
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: {error} Not knowing what is whose, {advice}") from error
    if more:
        raise CheckpointError(f"{folder}: holds what permgraph did not write there ({few(more)}), {advice}")


def _is_ours(folder: Path) -> bool:
    try:
        return not foreign(folder)
    except CheckpointError:
        return False


def _require_rights(folder: Path, target: Path) -> None:
    """Check that files can be created in `target` if it is an empty folder, else next to it."""
    empty = target.is_dir() and _is_empty(target)
    place = target if empty else next(parent for parent in target.parents if parent.exists())
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".permgraph.", dir=place))
        if place == target.parent:
            Workshop(place, stem_of(target)).close()
    except OSError as error:
        raise CheckpointError(
            f"{folder}: nothing can be written in {place}: {reason(error)}. Choose a place with space and rights."
        ) from error


def _seal(partial: Path) -> None:
    """Add the list of written files to the record, and flush all of them to the disk."""
    path = partial / RECORD
    known = read_json(path) if path.is_file() else {}
    files = sorted({*(name for name in _inside(partial) if not (partial / name).is_dir()), RECORD})
    path.write_text(json.dumps(known | {"files": files}, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    sync_tree(partial)


def _inside(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def _swap(partial: Path, target: Path, force: bool) -> None:
    """Rename `partial` to `target`. A folder that appeared there meanwhile is kept, unless it may be replaced."""
    if target.exists() and force:
        _require_ours(target, target)
        old = exchange(partial, target)
        if not _is_ours(old):  # something came in the moment between
            exchange_back(partial, target, old)
            raise _appeared(target)
        shutil.rmtree(old, ignore_errors=True)
        return
    try:
        os.rename(partial, target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise _appeared(target) from error
        raise


def _move_out(partial: Path, target: Path, force: bool) -> None:
    """Move the contents of `partial` up into `target`, which must be otherwise empty; `_undo` reverts it."""
    if [path.name for path in target.iterdir()] != [partial.name]:
        raise _appeared(target)
    names = [path.name for path in partial.iterdir()]
    for name in sorted(names, key=lambda name: (LAST.index(name) if name in LAST else -1, name)):
        os.rename(partial / name, target / name)


def _appeared(target: Path) -> CheckpointError:
    return CheckpointError(
        f"{target}: something else was written there meanwhile, and stays. Run the command again with another folder."
    )
