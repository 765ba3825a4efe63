"""Several processes as one: the same element as of one process, errors told to all, and nothing written by halves."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import in_ranks
import pytest
import torch
from commands import require_error, run
from pairs import PLANTED

import permgraph as pg
from permgraph import ranks
from permgraph.comparing.batches import Batches

ROOT = Path(__file__).parents[1]


def started(*words, **variables):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])} | variables
    return subprocess.Popen(
        [sys.executable, *map(str, words)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def torchrun(*words):
    process = started("-m", "torch.distributed.run", "--nproc-per-node", 2, "--standalone", "-m", "permgraph", *words)
    said, errors = process.communicate(timeout=120)
    return process.returncode, said, errors


def pair_of_processes(port, *words):
    """The same command twice, with what torchrun would tell each."""
    shared = {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [started("-m", "permgraph", *words, RANK=str(k), LOCAL_RANK=str(k), **shared) for k in range(2)]


@pytest.mark.slow
def test_two_processes_of_a_users_group_find_what_one_finds(tmp_path):
    processes = [started(in_ranks.__file__, rank, tmp_path / "store") for rank in range(2)]
    first, second = (process.communicate(timeout=120) for process in processes)
    assert [process.returncode for process in processes] == [0, 3], (first, second)
    first, second = json.loads(first[0]), json.loads(second[0])
    alone = json.loads(json.dumps(in_ranks.found()))
    assert first["found"] == second["found"]
    for name, (element, gains) in alone.items():
        assert gains == pytest.approx(first["found"][name][1], abs=1e-6)
        if name != "all kinds":  # rotations to the last bit depend on the order of the sums
            assert element == first["found"][name][0], name
    assert first["refused"][0].startswith("RankError: rank 1 failed: batch 4: args[0] has values that are not finite")
    assert second["refused"][0].startswith("CalibrationError: batch 4: args[0] has values that are not finite")
    assert first["refused"][1] == second["refused"][1]
    assert first["refused"][1].startswith("RankError: rank 1 was given other calibration data than rank 0")
    assert first["lost"].startswith("a process of the group is lost")


def test_torchrun_aligns_and_the_first_process_alone_writes(given, tmp_path):
    words = ("align", given / "a", given / "b", "--data", given / "clips")
    code, said, errors = torchrun(*words, "--out", tmp_path / "two", "--json")
    assert code == 0, errors
    record = json.loads((tmp_path / "two" / "permgraph.json").read_text())
    assert json.loads(said)["spec"] == record["spec"]
    run(*words, "--out", tmp_path / "one")
    alone = json.loads((tmp_path / "one" / "permgraph.json").read_text())
    assert record["permutations"] == alone["permutations"]
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two")]
    assert weights[0] == weights[1]


LOST = """
import os, torch
def batches():
    yield torch.randn(2, 4000)
    if os.environ.get("RANK") == "1":
        os._exit(9)
    yield torch.randn(2, 4000)
"""


@pytest.mark.slow  # a user's group of processes, above, loses one too
def test_a_lost_process_is_said_and_nothing_is_written(given, tmp_path):
    (tmp_path / "lost_data.py").write_text(LOST)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    sys.path.append(str(tmp_path))
    try:
        first, second = pair_of_processes(
            port, "merge", given / "a", given / "b", "--data", "python:lost_data:batches", "--out", tmp_path / "out"
        )
    finally:
        sys.path.remove(str(tmp_path))
    said, errors = first.communicate(timeout=120)
    second.communicate(timeout=120)
    assert (first.returncode, second.returncode, said) == (1, 9, ""), errors
    assert "error: a process of the group is lost" in errors
    assert "Traceback" not in errors
    assert sorted(path.name for path in tmp_path.iterdir()) in (["lost_data.py"], ["__pycache__", "lost_data.py"])


@pytest.fixture
def launched(monkeypatch):
    """This process as if torchrun had started it, the second of two."""
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_the_other_processes_end_where_there_is_nothing_to_share(given, tmp_path, launched):
    words = [given / "a", given / "b", "--out", tmp_path / "out"]
    for command in (["align", *words], ["merge", *words], ["inspect", given / "a"]):
        result = run(*command)
        assert not result.output
    assert not (tmp_path / "out").exists()
    launched.setenv("RANK", "0")
    assert "done by one process" in run("align", *words).stderr


def test_processes_that_cannot_meet_say_so(given, tmp_path, launched):
    def refuse(*args, **kwargs):
        raise RuntimeError("no store")

    launched.setattr(torch.distributed, "init_process_group", refuse)
    words = ["align", given / "a", given / "b", "--data", given / "clips", "--out", tmp_path / "out"]
    assert "error in process 1: the processes cannot be joined to a group: no store" in run(*words, code=1).stderr
    launched.setenv("RANK", "0")
    require_error(run(*words, code=1), "cannot be joined to a group: no store")


class Two:
    """A second rank that answers what it is told to."""

    def __init__(self, monkeypatch, *answers):
        self.answers = list(answers)
        monkeypatch.setattr(ranks, "count", lambda: 2)
        monkeypatch.setattr(ranks.dist, "get_rank", lambda: 0)
        monkeypatch.setattr(ranks.dist, "all_gather_object", self.gather)

    def gather(self, found, value):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        found[:] = [value, answer]


def test_errors_of_other_ranks_are_raised_in_this_one(monkeypatch):
    Two(monkeypatch, "no memory", RuntimeError("closed"), "other")
    with pytest.raises(pg.RankError, match="rank 1 failed: no memory"), ranks.together():
        pass
    with pytest.raises(pg.RankError, match=r"lost or does not answer \(closed\)"), ranks.together():
        pass
    with pytest.raises(pg.RankError, match="rank 1 was given other weights"):
        ranks.require_same("one", "weights")
    Two(monkeypatch, None)
    with pytest.raises(KeyError), ranks.together():
        raise KeyError("own")


def test_batches_are_dealt_and_none_is_left_out():
    data = list(torch.arange(1.0, 8.0)[:, None])
    for of in (1, 2, 3, 9):
        for make in (lambda: data, lambda: iter(data)):
            hands = [[int(args[0]) for args, _ in Batches(make()).stream(rank, of)] for rank in range(of)]
            assert sorted(number for hand in hands for number in hand) == list(range(1, 8))
            assert hands[0] == list(range(1, 8))[::of]


def test_lazy_batches_make_only_what_is_dealt(given):
    from permgraph.data.audio import AudioBatches

    batches = AudioBatches(given / "clips", seconds=0.5, batch_size=2)
    every = [batch["input_values"] for batch in batches]
    for rank in range(3):
        hand = [batch["input_values"] for batch in batches.dealt(rank, 3)]
        assert len(hand) == len(every[rank::3])
        assert all(torch.equal(one, other) for one, other in zip(hand, every[rank::3], strict=True))


def test_a_group_of_one_is_no_group():
    planted = PLANTED["mlp"]()
    assert (ranks.count(), ranks.number(), ranks.gathered(3)) == (1, 0, [3])
    assert not set(planted.spec.invert(planted.element)) - set(
        planted.recovered(pg.align(planted.a, planted.b, planted.batches).permutations)
    )
