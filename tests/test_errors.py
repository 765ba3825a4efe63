"""What a message may hold, and how a command says what the system refused."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import run

from permgraph.errors import CheckpointError, OptionError
from permgraph.jobs import files
from permgraph.wording import printable

ESCAPED = {
    "an escape": ("\x1b[31mred", "\\x1b[31mred"),
    "a bell": ("a\x07", "a\\x07"),
    "a carriage return": ("good\rbad", "good\\rbad"),
    "right to left": ("a\u202eb", "a\\u202eb"),
    "half of a pair": ("a\ud800", "a\\ud800"),
    "a file name that is not UTF-8": (os.fsdecode(b"a\xff"), "a\\udcff"),
    "lines": ("a\n\tb", "a\n\tb"),
    "letters": ("Größe 漢字 …", "Größe 漢字 …"),
}


@pytest.mark.parametrize(("text", "shown"), ESCAPED.values(), ids=ESCAPED)
def test_nothing_that_a_message_quotes_steers_the_terminal(text, shown):
    assert printable(text) == shown
    for kind in (CheckpointError, OptionError):
        assert str(kind(text)) == shown
    shown.encode()


def test_a_message_has_an_end():
    text = str(CheckpointError("a" * 10**6 + "z"))
    assert len(text) < 5000
    assert text.startswith("aaa")
    assert text.endswith("z")
    assert "letters left out" in text


def refused(*_, **__):
    raise PermissionError(13, "Permission denied", "/models/a/vocab.txt")


def test_what_the_system_refuses_is_no_bug_of_ours(given, tmp_path, monkeypatch):
    monkeypatch.setattr("permgraph.jobs.loading.load", refused)
    result = run("merge", given / "a", given / "b", "--out", tmp_path / "out", code=1)
    assert result.stderr.startswith("error: /models/a/vocab.txt: Permission denied. Check the path")


def command(*words, **options):
    return subprocess.run(
        [sys.executable, "-m", "permgraph", *words], stderr=subprocess.PIPE, text=True, check=False, **options
    )


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no device that is always full")
@pytest.mark.parametrize("words", [("adapters",), ("adapters", "--json")])
def test_a_full_stdout_is_no_bug_of_ours(words):
    with open("/dev/full", "w") as full:
        done = command(*words, stdout=full)
    assert done.returncode == 1
    said = done.stderr.splitlines()[-1]
    assert said.startswith("error: the terminal, file or pipe that stdout leads to cannot be written: No space")


def test_a_terminal_of_few_letters_gets_all_it_can_show(tmp_path):
    name = "gr\u00f6\u00dfe"
    done = command("inspect", name, stdout=subprocess.PIPE, env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stdout) == (1, "")
    assert "gr\\xf6\\xdfe" in done.stderr


def test_a_reader_of_stdout_that_is_gone_ends_a_command_in_silence(monkeypatch):
    class Gone:
        def write(self, text):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Gone())
    with pytest.raises(BrokenPipeError):
        files.write(Path("-"), "{}")
