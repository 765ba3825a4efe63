"""Warnings that no test of ours can avoid, and threads that sleep while they wait: the test processes share cores."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read once, when torch is first imported

import shutil
from pathlib import Path
from typing import Any

import messages
import pytest

RECORDER = pytest.StashKey[messages.Recorder]()

THIRD_PARTY = (
    "ignore::DeprecationWarning:torch.*",
    "ignore::FutureWarning:torch.*",
    "ignore::DeprecationWarning:transformers.*",
    "ignore::FutureWarning:transformers.*",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for warning in THIRD_PARTY:
            item.add_marker(pytest.mark.filterwarnings(warning))


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RECORDER] = messages.Recorder()
    config.stash[RECORDER].start()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    node.config.stash[RECORDER].places.update(getattr(node, "workeroutput", {}).get("messages", ()))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """All tests ran and passed: a message that none of them raised is a failure all the same."""
    config = session.config
    places = config.stash[RECORDER].places
    if hasattr(config, "workeroutput"):
        config.workeroutput["messages"] = sorted(places)
    elif exitstatus == 0 and _everything(config) and messages.silent(places):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int, config: pytest.Config) -> None:
    if exitstatus == 0 and _everything(config):
        for line in messages.silent(config.stash[RECORDER].places):
            terminalreporter.write_line(f"no test raises the message at {line}", red=True)


def _everything(config: pytest.Config) -> bool:
    chosen = config.args_source is not config.ArgsSource.TESTPATHS
    option = config.option
    return not (chosen or option.keyword or getattr(option, "lf", False) or option.collectonly) and option.markexpr in (
        "",
        "not slow",
    )


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tiny checkpoints, calibration clips, and what is never written to."""
    from commands import clips, hubert

    folder = tmp_path_factory.mktemp("given")
    hubert(folder / "a", 0)
    hubert(folder / "b", 1)
    clips(folder / "clips")
    return folder


@pytest.fixture
def copies(given: Path, tmp_path: Path) -> Path:
    """The same, to be damaged."""
    shutil.copytree(given, tmp_path / "in")
    return tmp_path / "in"
