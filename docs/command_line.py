"""Writes docs/command-line.md from the help of the command line: python docs/command_line.py"""

from pathlib import Path

import typer.main

from permgraph.cli.app import app

PAGE = Path(__file__).with_name("command-line.md")
WIDTH = 100
HEAD = """# The command line

What `permgraph COMMAND --help` prints, command by command. `MODEL`, `A` and `B` are each a local Hugging Face folder, a
hub id, `timm:NAME`, or `python:package.module:function`. [What is read and written](files.md) has the data formats,
the files of an output and the exit codes.
"""


def page() -> str:
    """The page."""
    group = typer.main.get_command(app)
    parts = [HEAD]
    with group.make_context("permgraph", ["--help"], resilient_parsing=True, max_content_width=WIDTH) as above:
        above.terminal_width = WIDTH
        parts.append(_block(group.get_help(above)))
        for name, command in group.commands.items():
            with command.make_context(
                name, [], parent=above, resilient_parsing=True, max_content_width=WIDTH, terminal_width=WIDTH
            ) as context:
                parts.append(f"## {name}\n\n{_block(command.get_help(context))}")
    return "\n".join(parts)


def _block(text: str) -> str:
    lines = "\n".join(line.rstrip() for line in text.strip().splitlines())
    return f"```text\n{lines}\n```\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
