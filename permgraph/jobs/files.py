"""Single files that a command writes: completely or not at all, and never over another file without --force."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from permgraph.checkpoints.moving import sync
from permgraph.errors import CheckpointError
from permgraph.wording import reason

if TYPE_CHECKING:
    from permgraph.symmetry.specification.spec import PermutationSpec

STDOUT = "-"
PALETTE = ("#8ecae6", "#ffb703", "#a7c957", "#f4978e", "#cdb4db", "#e9c46a", "#90dbf4", "#f1c0e8", "#b9fbc0", "#d4a373")
PINNED = "#bbbbbb"


def require_writable(path: Path, *, force: bool = False, inputs: Iterable[str] = ()) -> None:
    """Check that `path` can be written and, without `force`, is empty. Raises CheckpointError for what is in the way.

    A file inside one of `inputs` is never replaced.
    """
    try:
        if _is_stream(path):
            return
        _require_free(path, force, [Path(given).expanduser() for given in inputs])
    except (OSError, RuntimeError, ValueError) as error:  # a name too long, a loop of links, a NUL
        raise _unwritable(path, error) from error


def _require_free(path: Path, force: bool, inputs: Iterable[Path]) -> None:
    if path.is_dir():
        raise CheckpointError(f"{path}: is a folder, and a file is to be written. Choose another name.")
    if not path.resolve().parent.is_dir():
        raise CheckpointError(f"{path}: its folder does not exist. Create it first.")
    if not path.is_file() or not path.stat().st_size:
        return
    target = path.resolve()
    for given in (given.resolve() for given in inputs if given.exists()):
        if given == target or given in target.parents:
            raise CheckpointError(f"{path}: is a file of the input {given}, which stays. Choose another name.")
    if not force:
        raise CheckpointError(f"{path}: exists already. Choose another name, or replace it with --force.")


def write(path: Path, text: str, *, force: bool = False) -> None:
    """Write `text` to a new file next to `path` and move it there. Raises CheckpointError where that cannot be done.

    "-" is stdout, and devices and pipes are written as they are. A reader of stdout that is gone raises
    BrokenPipeError, which ends a command without a word.
    """
    require_writable(path, force=force)
    try:
        if str(path) == STDOUT:
            print(text, flush=True)
            return
        if _is_stream(path):
            path.write_text(text, encoding="utf-8")
            return
        target = path.resolve()
        partial = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")
        try:
            partial.write_text(text, encoding="utf-8")
            sync(partial)
            os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        if isinstance(error, BrokenPipeError) and str(path) == STDOUT:
            raise
        raise _unwritable(path, error) from error


def _is_stream(path: Path) -> bool:
    """Whether `path` is stdout, a device or a pipe, even if that is redirected to a plain file."""
    return str(path) == STDOUT or path.parts[:2] == ("/", "dev") or path.is_fifo() or path.is_char_device()


def _unwritable(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{path}: cannot be written: {reason(error)}. Choose a place with space and rights.")


def dot(spec: PermutationSpec) -> str:
    """The tie graph for Graphviz: nodes are axes of tensors, a colour for each group, grey where pinned."""
    graph = spec.graph
    colours = {group.name: PALETTE[k % len(PALETTE)] for k, group in enumerate(spec.groups)}
    lines = ["graph permgraph {", '  node [shape=box, style="rounded,filled", fontname="sans-serif"];']
    for k, node in graph.nodes(data=True):
        label = f"{node['tensor']}[{node['dim']}]\n{node['size']} {node['group'] or 'pinned'}"
        tip = node["pinned"] or node["group"]
        colour = colours.get(node["group"], PINNED)
        lines.append(f"  {k} [label={_quoted(label)}, tooltip={_quoted(tip)}, fillcolor={_quoted(colour)}];")
    for a, b, edge in graph.edges(data=True):
        where = " ".join(filter(None, (edge["module"], edge["line"])))
        lines.append(f"  {a} -- {b} [label={_quoted(edge['op'])}, tooltip={_quoted(where)}];")
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
