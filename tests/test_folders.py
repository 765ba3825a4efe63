"""Output folders: what is never touched, what is replaced, and what a killed run leaves."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from permgraph.checkpoints import moving
from permgraph.checkpoints.folders import require_free, require_space, whole_folder
from permgraph.errors import CheckpointError


def written(folder, text="new", **options):
    with whole_folder(folder, **options) as partial:
        (partial / "config.json").write_text(json.dumps(text))
        (partial / "weights").mkdir()
        (partial / "weights" / "w").write_text(text)
    return folder


def content(folder):
    return (folder / "weights" / "w").read_text()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


WHOLE = ["config.json", "permgraph.json", "weights"]


@pytest.fixture
def inputs(tmp_path):
    """A model whose weights are a link to elsewhere, and folders that permgraph wrote around it."""
    model = written(tmp_path / "models" / "a", "precious")
    written(tmp_path / "store", "precious")
    (model / "linked").symlink_to(tmp_path / "store" / "config.json")
    (tmp_path / "alias").symlink_to(model)
    return tmp_path


OVERLAPS = {
    "is": ("models/a", "is the input"),
    "is, by another way": ("models/../models/a/", "is the input"),
    "is, by a link": ("alias", "is the input"),
    "holds": ("models", "holds the input"),
    "lies in": ("models/a/deep/out", "lies in the input"),
    "lies in, by a link": ("alias/out", "lies in the input"),
    "holds what a link leads to": ("store", r"holds the input .*by its link to .*config\.json"),
    "beside": ("models/b", None),
    "of a longer name": ("models/a2", None),
}


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(("out", "message"), OVERLAPS.values(), ids=OVERLAPS)
def test_an_output_shares_no_place_with_an_input(inputs, out, message, force):
    given = [inputs / "models" / "a", "owner/name-on-a-hub"]
    if message is None:
        assert content(written(inputs / out, inputs=given, force=force)) == "new"
        return
    for check in (require_free, written):
        with pytest.raises(CheckpointError, match=message):
            check(inputs / out, inputs=given, force=force)
    assert content(inputs / "models" / "a") == content(inputs / "store") == "precious"


def test_a_recipe_is_an_input_too(tmp_path):
    recipe = written(tmp_path / "out") / "recipe.toml"
    recipe.touch()
    with pytest.raises(CheckpointError, match="holds the input"):
        require_free(tmp_path / "out", force=True, inputs=[recipe])
    require_free(tmp_path / "out2", inputs=[recipe])


def ours(folder):
    written(folder, "old")


def foreign(folder):
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "thesis.tex").write_text("years of work")


def with_more(folder):
    ours(folder)
    (folder / "thesis.tex").write_text("years of work")


def with_a_folder_more(folder):
    ours(folder)
    (folder / "deep").mkdir()


def with_a_link_for_a_folder(folder):
    ours(folder)
    (folder / "weights" / "w").unlink()
    (folder / "weights").rmdir()
    (folder / "weights").symlink_to(folder.parent)


def without_a_list(folder):
    ours(folder)
    (folder / "permgraph.json").write_text("{}")


def with_a_broken_record(folder):
    ours(folder)
    (folder / "permgraph.json").write_text("{")


REPLACED = {
    "what permgraph wrote": (ours, None),
    "another's checkpoint": (foreign, r"has no permgraph\.json"),
    "a file more": (with_more, r"did not write there \(thesis\.tex\)"),
    "a folder more": (with_a_folder_more, r"\(deep\)"),
    "a link for a folder": (with_a_link_for_a_folder, r"\(weights\)"),
    "no list of files": (without_a_list, "no list of files"),
    "a broken record": (with_a_broken_record, "cannot be read"),
}


@pytest.mark.parametrize(("make", "message"), REPLACED.values(), ids=REPLACED)
def test_force_replaces_what_permgraph_wrote_and_nothing_else(tmp_path, make, message):
    make(tmp_path / "out")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(CheckpointError, match=r"is not empty\. .*--force"):
        require_free(tmp_path / "out")
    if message is None:
        assert content(written(tmp_path / "out", force=True)) == "new"
    else:
        for check in (require_free, written):
            with pytest.raises(CheckpointError, match=message):
                check(tmp_path / "out", force=True)
    assert sorted(tmp_path.rglob("*")) == before


def test_force_keeps_the_working_directory_mounts_and_files(tmp_path, monkeypatch):
    ours(tmp_path / "out")
    monkeypatch.chdir(tmp_path / "out" / "weights")
    with pytest.raises(CheckpointError, match="working directory"):
        require_free(tmp_path / "out", force=True)
    with pytest.raises(CheckpointError, match="is a file"):
        require_free(tmp_path / "out" / "config.json", force=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, "is_mount", lambda path: path.name == "out")
    with pytest.raises(CheckpointError, match="is a mount"):
        require_free(tmp_path / "out", force=True)


def full(folder):
    folder.mkdir(exist_ok=True)
    (folder / "precious").write_text("mine")


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


def test_an_empty_folder_is_filled_and_stays_the_same_folder(tmp_path):
    (tmp_path / "out").mkdir()
    before = (tmp_path / "out").stat().st_ino
    written(tmp_path / "out")
    assert (tmp_path / "out").stat().st_ino == before
    assert names(tmp_path / "out") == WHOLE


ODD = {
    "a long name": ("n" * 245, None),
    "a name that is too long": ("n" * 300, "cannot be written"),
    "a loop of links": ("loop", "cannot be written"),
    "a NUL": ("a\0b", "cannot be written"),
}


@pytest.mark.parametrize(("name", "message"), ODD.values(), ids=ODD)
def test_odd_names_are_written_or_refused_before_the_work(tmp_path, name, message):
    (tmp_path / "loop").symlink_to("loop")
    if message is None:
        assert names(written(tmp_path / name)) == WHOLE
    else:
        with pytest.raises(CheckpointError, match=message):
            require_free(tmp_path / name)


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


def test_a_place_without_space_is_refused_before_the_work(tmp_path):
    require_space(tmp_path / "deep" / "out", 1000)
    with pytest.raises(CheckpointError, match=r"about 1e\+09 GB are to be written, and .* GB free"):
        require_space(tmp_path / "deep" / "out", 10**18)
