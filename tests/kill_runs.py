"""Runs a command again and again in processes that are killed at random moments; prints what each kill left.

Started by `test_kills` in a process of its own with one thread, so that a fork is ready at once.
"""

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import torch

torch.set_num_threads(1)

from typer.testing import CliRunner  # noqa: E402

from permgraph.cli.app import app  # noqa: E402


def started(words):
    """A child that runs the command; its exit status is the command's."""
    child = os.fork()
    if child:
        return child
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    os._exit(CliRunner().invoke(app, words).exit_code)


def run(words):
    """The command in this process."""
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output


def digest(folder):
    """SHA-256 of every file but the page and the record, which have the time or the command in them."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.suffix in (".safetensors", ".txt") or path.name == "config.json"
    }


def state(out, before, after):
    """What the output's name holds: nothing, the old, the new, or a part that nothing loads."""
    names = {path.name for path in out.iterdir() if not path.name.startswith(".")} if out.is_dir() else set()
    if not names:
        return "nothing"
    if "permgraph.json" in names:
        listed = set(json.loads((out / "permgraph.json").read_text())["files"])
        whole = listed <= names
        return {str(before): "old", str(after): "new"}.get(str(digest(out)), "wrong") if whole else "wrong"
    return "wrong" if "config.json" in names and names > {"config.json"} else "unfinished"


def unfinished(out):
    """What a run that writes to this output has beside or in it."""
    return [*out.parent.glob(f".{out.name}.*"), *out.glob(".permgraph.*")]


def wait_for_files(child, out):
    """Return as soon as a child writes, or ends."""
    while not unfinished(out) and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        time.sleep(0.001)


def prepared(out, way, finished):
    """The output as it is before a run, and what of the command line goes with it."""
    for path in out.parent.glob(f".{out.name}.*"):
        shutil.rmtree(path)
    shutil.rmtree(out, ignore_errors=True)
    if way == "empty":
        out.mkdir()
    if way == "force":
        shutil.copytree(finished, out)
    return ["--force"] if way == "force" else []


def main(a, b, root, kills, seed):
    chance, found = random.Random(seed), []
    out, old = root / "out", root / "old"
    run(["merge", a, b, "--weight", "0.3", "--out", str(old)])  # in this process: what it imports, no child has to
    new, taken = {}, {}
    for command in ("align", "merge"):
        run([command, a, b, "--out", str(root / command)])
        shutil.rmtree(root / command)
        begun = time.monotonic()
        assert os.waitpid(started([command, a, b, "--out", str(root / command)]), 0)[1] == 0
        new[command], taken[command] = digest(root / command), time.monotonic() - begun
    for number in range(kills):
        command, way = ("align", "merge")[number % 2], ("fresh", "empty", "force")[number % 3]
        words = [command, a, b, "--out", str(out), *prepared(out, way, old)]
        child = started(words)
        if number % 4 == 1:
            wait_for_files(child, out)
            time.sleep(0.05 * chance.random())
        else:
            time.sleep(taken[command] * chance.uniform(0.6 * (number % 4 > 0), 1.05))
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
        left = state(out, digest(old), new[command])
        partial = len(unfinished(out))
        again = words if left != "new" or "--force" in words else [*words, "--force"]
        resumed = os.waitpid(started(again), 0)[1] == 0
        after = state(out, digest(old), new[command])
        hidden = [path.name for path in [*root.iterdir(), *out.iterdir()] if path.name.startswith(".")]
        found.append([way, killed, left, partial, resumed, after, hidden])
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
