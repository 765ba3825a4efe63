"""The page of the command line is that of its help; the page of files names what there is."""

import importlib.util
import re
from pathlib import Path

import pytest
import typer.main

from permgraph.cli.app import app
from permgraph.data import audio, images, text

DOCS = Path(__file__).parents[1] / "docs"
COMMANDS = typer.main.get_command(app).commands


def words(given):
    return " ".join(given.split())


def page(name):
    return (DOCS / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_has_the_help_of_every_command(name):
    shown = page("command-line.md").partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    options = [option for option in COMMANDS[name].params if option.param_type_name == "option"]
    assert all(words(option.help) in words(shown) for option in options if option.help)
    known = {word for option in options for word in option.opts if word.startswith("--")} | {"--help"}
    assert set(re.findall(r"^  (?:-\w, )?(--[a-z-]+)", shown, re.M)) == known


def test_the_page_is_written_by_its_script():
    found = importlib.util.spec_from_file_location("command_line", DOCS / "command_line.py")
    script = importlib.util.module_from_spec(found)
    found.loader.exec_module(script)
    headings = [line for line in script.page().splitlines() if line.startswith("#")]
    assert headings == [line for line in page("command-line.md").splitlines() if line.startswith("#")]


def test_the_page_of_files_names_what_is_read():
    shown = page("files.md")
    suffixes = (*audio.SUFFIXES, *images.SUFFIXES, *text.READERS)
    assert [suffix for suffix in suffixes if f"`{suffix}`" not in shown] == []
    assert [field for field in text.FIELDS if f"`{field}`" not in shown] == []
    assert f"{text.MOST_TOKENS:,} tokens" in words(shown)
    assert f"{text.TOKENS} tokens" in shown
