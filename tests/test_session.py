"""What all commands share: help with examples that parse, devices, progress and completion."""

import importlib
import os
import shlex
import subprocess
import sys
import time

import folders
import pytest
import torch
from commands import run

from permgraph.cli.app import app
from permgraph.cli.examples import EXAMPLES
from permgraph.errors import OptionError
from permgraph.jobs import session as sessions
from permgraph.jobs.session import Session
from permgraph.models.devices import MovedBatches, device_of
from permgraph.models.loading import load


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    root = tmp_path_factory.mktemp("session")
    for seed, name in enumerate("ab"):
        folders.bert(root / name, seed=seed)
    return root


def test_every_command_has_examples_and_they_parse():
    names = [command.callback.__name__ for command in app.registered_commands]
    assert sorted(names) == sorted(EXAMPLES)
    for name in names:
        text = run(name, "--help").stdout
        assert len(EXAMPLES[name]) >= 2
        for purpose, line in EXAMPLES[name]:
            assert f"  {purpose}{'' if purpose.endswith('?') else ':'}\n    $ {line}\n" in text
            program, first, *words = shlex.split(line)
            assert (program, first) == ("permgraph", name)
            parser = importlib.import_module("typer.main").get_command(app).commands[name]
            parser.make_context(name, words)


DEVICES = {"gpu": "is not a device", "mps": "proved in float64", "meta": "proved in float64", "cuda:99": "sees . CUDA"}


@pytest.mark.parametrize("name", DEVICES)
def test_a_device_that_is_not_there_is_refused(given, tmp_path, name):
    with pytest.raises(OptionError, match=f"--device {name}: .*{DEVICES[name]}.* Give"):
        device_of(name)
    words = ("merge", given / "a", given / "b", "--device", name, "--out", tmp_path / "out")
    assert f"--device {name}" in run(*words, code=1).stderr


def test_on_the_cpu_nothing_is_moved(given):
    loaded = load(str(given / "a"))
    assert loaded.on(device_of("cpu")) is loaded
    run("verify", given / "a", "--trials", 1, "--device", "cpu")


def test_moved_batches_are_where_the_model_is():
    batches = MovedBatches([{"x": torch.ones(2), "n": 3}], torch.device("meta"))
    assert len(batches) == 1
    ((batch),) = batches
    assert batch["x"].is_meta
    assert batch["n"] == 3
    with pytest.raises(TypeError, match="no length"):
        len(MovedBatches(iter([]), torch.device("meta")))


class Terminal:
    """A stream that rich takes for a terminal."""

    encoding = "utf-8"

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text
        return len(text)

    def flush(self):
        pass

    def isatty(self):
        return True


@pytest.mark.parametrize(("seconds", "quiet", "shown"), [(0.0, False, False), (0.6, False, True), (0.6, True, False)])
def test_progress_appears_with_patience_and_says_what_is_left(monkeypatch, seconds, quiet, shown):
    terminal = Terminal()
    monkeypatch.setattr(sessions, "PATIENCE", 0.2)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with Session(quiet=quiet).progress() as progress:
        progress("calibration", 1, 4)
        time.sleep(seconds)
        progress("calibration", 2, 4)
    assert ("calibration" in terminal.text) is shown
    assert ("left" in terminal.text) is shown


@pytest.mark.parametrize("quiet", [False, True])
def test_a_log_has_a_line_for_each_stage_of_a_long_job(monkeypatch, capsys, quiet):
    with Session(quiet=quiet).progress() as progress:
        progress("loading", 0, 2)
    assert capsys.readouterr().err == ""  # a short job
    monkeypatch.setattr(sessions, "PATIENCE_OF_A_LOG", 0.0)
    with Session(quiet=quiet).progress() as progress:
        for stage, done, total in (("loading", 0, 2), ("loading", 1, 2), ("matching", 0, None)):
            progress(stage, done, total)
    lines = [] if quiet else ["loading 0 of 2, after 0 s", "matching, after 0 s"]
    assert capsys.readouterr().err.splitlines() == lines


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_for_the_shells(shell):
    code = "from permgraph.cli import main; main()"
    environment = os.environ | {"_PERMGRAPH_COMPLETE": f"source_{shell}"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "permgraph" in done.stdout, done.stderr
    assert "_PERMGRAPH_COMPLETE" in done.stdout
    words = {"COMP_WORDS": "permgraph in", "COMP_CWORD": "1", "_TYPER_COMPLETE_ARGS": "permgraph in"}
    environment = (
        os.environ | words | {"_PERMGRAPH_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "inspect" in done.stdout, done.stderr
