"""Runs that are killed, that meet in one folder, or that run out of space: nothing is lost, nothing loads by halves."""

import hashlib
import json
import os
import resource
import subprocess
import sys
from collections import Counter
from pathlib import Path

import kill_runs
import pytest
from folders import bert

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    return [str(bert(folder / name, seed=seed)) for seed, name in enumerate("ab")]


def hashes(folders):
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for f in folders for path in Path(f).iterdir()}


def begun(*words, **more):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path]), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *map(str, words)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


@pytest.mark.slow  # `test_folders_meanwhile` kills a run at each of its moments
@pytest.mark.parametrize("kills", [3, 200])
def test_kills_at_random_moments(two, tmp_path, kills):
    before = hashes(two)
    process = begun(kill_runs.__file__, *two, tmp_path, kills, kills)
    said, errors = process.communicate(timeout=3000)
    assert process.returncode == 0, errors
    found = json.loads(said.splitlines()[-1])
    assert len(found) == kills
    assert hashes(two) == before
    for way, killed, left, _, resumed, after, hidden in found:
        allowed = {"fresh": {"nothing", "new"}, "empty": {"nothing", "unfinished", "new"}, "force": {"old", "new"}}
        assert left in allowed[way] | ({"nothing"} if way == "force" else set()), (way, left)
        assert killed or left == "new"
        assert (resumed, after, hidden) == (True, "new", [])
    if kills > 100:
        told = Counter(killed for _, killed, *_ in found)
        assert told[True] > kills // 2
        assert any(partial for _, _, _, partial, *_ in found)  # some were killed while they wrote


@pytest.mark.slow  # `test_folders_meanwhile` has the same in one process
def test_of_two_runs_into_one_folder_one_writes_and_the_other_is_refused(two, tmp_path):
    words = ("-m", "permgraph", "merge", *two, "--out", tmp_path / "out")
    runs = [begun(*words) for _ in range(2)]
    ended = [run.communicate(timeout=300) for run in runs]
    codes = sorted(run.returncode for run in runs)
    assert codes == [0, 1], ended
    (refused,) = (errors for run, (_, errors) in zip(runs, ended, strict=True) if run.returncode)
    assert any(
        words in refused for words in ("another run is writing it", "is not empty", "something else was written")
    )
    assert "Traceback" not in refused
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    listed = json.loads((tmp_path / "out" / "permgraph.json").read_text())["files"]
    assert sorted(listed) == sorted(path.name for path in (tmp_path / "out").iterdir())


@pytest.mark.parametrize("room", [pytest.param(100, marks=pytest.mark.slow), 20_000])
def test_a_disk_without_room_leaves_nothing(two, tmp_path, room):
    """A limit on the size of a file stops a write as a full disk does: at the first byte, or amid the weights."""

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    run = begun("-B", "-m", "permgraph", "align", *two, "--out", tmp_path / "out", preexec_fn=limited)
    said, errors = run.communicate(timeout=300)
    assert (run.returncode, said) == (1, ""), errors
    assert "cannot be written: File too large. Choose a place with space" in errors
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []
