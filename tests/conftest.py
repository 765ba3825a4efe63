"""Warnings that no test of ours can avoid, and threads that sleep while they wait: the test processes share cores."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read once, when torch is first imported

import shutil
from pathlib import Path

import messages
import pytest

FOLDER = os.environ.get("PERMGRAPH_MESSAGES")
MESSAGES = pytest.StashKey[messages.Recorder]()

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
    if FOLDER:
        config.stash[MESSAGES] = messages.Recorder()
        config.stash[MESSAGES].start()


def pytest_unconfigure(config: pytest.Config) -> None:
    if FOLDER:
        config.stash[MESSAGES].write(Path(FOLDER))


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
