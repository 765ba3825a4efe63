"""What others write into an output folder meanwhile stays, and a run that fails or is killed leaves no half folder."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from output_folders import WHOLE, content, full, names, ours, written

from permgraph.checkpoints import moving
from permgraph.checkpoints.folders import require_free, whole_folder
from permgraph.errors import CheckpointError

MEANWHILE = {
    "a folder with something": full,
    "a file": lambda path: path.write_text("mine"),
    "the same from another run": lambda path: written(path, "mine"),
}


@pytest.mark.parametrize("appear", MEANWHILE.values(), ids=MEANWHILE)
def test_what_appears_meanwhile_stays(tmp_path, appear):
    def race():
        with whole_folder(tmp_path / "out") as partial:
            (partial / "w").write_text("late")
            appear(tmp_path / "other")  # under another name first: a run that writes looks for runs beside it
            os.rename(tmp_path / "other", tmp_path / "out")

    with pytest.raises(CheckpointError, match="something else was written there meanwhile, and stays"):
        race()
    assert names(tmp_path) == ["out"]
    assert "mine" in "".join(p.read_text() for p in (tmp_path, *tmp_path.rglob("*")) if p.is_file())


@pytest.mark.parametrize("make", [ours, Path.mkdir])
def test_what_is_put_into_the_output_meanwhile_stays(tmp_path, make):
    make(tmp_path / "out")

    def race():
        with whole_folder(tmp_path / "out", force=make is ours) as partial:
            (partial / "w").write_text("late")
            full(tmp_path / "out")

    with pytest.raises(CheckpointError, match=r"precious|meanwhile"):
        race()
    assert (tmp_path / "out" / "precious").read_text() == "mine"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("exchanges", [True, False])
def test_what_is_put_there_in_the_last_moment_comes_back(tmp_path, monkeypatch, exchanges):
    ours(tmp_path / "out")

    def last_moment(new, target):
        if not (target / "precious").exists() and not (new / "precious").exists():
            full(target)
        if not exchanges:
            raise OSError(errno.ENOSYS, "no such call")
        real(new, target)

    real = moving._rename_exchange
    monkeypatch.setattr(moving, "_rename_exchange", last_moment)
    with pytest.raises(CheckpointError, match="meanwhile"):
        written(tmp_path / "out", force=True)
    assert content(tmp_path / "out") == "old"
    assert (tmp_path / "out" / "precious").exists()
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize("error", [RuntimeError("bug"), KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_nothing_is_left_of_a_folder_that_fails_half_way(tmp_path, error, within):
    if within:
        (tmp_path / "out").mkdir()

    def fail():
        with whole_folder(tmp_path / "out") as partial:
            (partial / "half").write_text("x")
            raise error

    with pytest.raises(CheckpointError if isinstance(error, OSError) else type(error)):
        fail()
    assert [path.name for path in tmp_path.rglob("*")] == (["out"] if within else [])


KILLED = """
import json, os, signal, sys
from pathlib import Path
from permgraph.checkpoints import moving
from permgraph.checkpoints.folders import whole_folder
left = int(sys.argv[2])
def counted(real):
    def call(*given):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*given)
    return call
os.rename, os.fsync, os.mkdir = map(counted, (os.rename, os.fsync, os.mkdir))
if sys.argv[3] == "renames":
    def _no(*_): raise OSError(38, "no such call")
    moving._rename_exchange = _no
moving._rename_exchange = counted(moving._rename_exchange)
with whole_folder(sys.argv[1], force=True) as partial:
    (partial / "config.json").write_text('"new"')
    (partial / "weights").mkdir()
    (partial / "weights" / "w").write_text("new")
print("done")
"""


@pytest.mark.parametrize("how", ["replaced", "renames", "within", "absent"])
def test_a_run_killed_at_any_moment_leaves_the_old_or_the_new_and_the_next_run_cleans(tmp_path, how):
    for moment in range(1, 30):
        base = tmp_path / str(moment)
        base.mkdir()
        out = base / "out"
        if how in ("replaced", "renames"):
            ours(out)
        elif how == "within":
            out.mkdir()
        done = subprocess.run(
            [sys.executable, "-c", KILLED, str(out), str(moment), how], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            assert done.stdout == "done\n"
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        partly = list(out.glob(".permgraph.*.partial"))
        if out.exists() and not partly and names(out):
            assert names(out) == WHOLE
            assert content(out) in ("old", "new")
        elif how in ("replaced", "renames"):
            assert not out.exists()
            assert list(base.glob(".out.*.old"))
        require_free(out, force=True)
        assert content(written(out, "next", force=True)) == "next"
        assert names(base) == ["out"]
        assert names(out) == WHOLE
    assert moment > 5


def test_a_run_that_still_writes_is_not_disturbed(tmp_path):
    with whole_folder(tmp_path / "out") as partial:
        with pytest.raises(CheckpointError, match=r"another run is writing it, in \.out\..*partial"):
            require_free(tmp_path / "out")
        (partial / "config.json").write_text("{}")
    assert names(tmp_path / "out") == ["config.json", "permgraph.json"]


def test_what_only_looks_like_a_leftover_stays(tmp_path):
    for name in (".out.partial", ".out.mine.old", ".other.12345678.partial"):
        (tmp_path / name).mkdir()
    written(tmp_path / "out")
    assert names(tmp_path) == [".other.12345678.partial", ".out.mine.old", ".out.partial", "out"]
