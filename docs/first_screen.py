"""Runs `docs/examples/two_vits.py` and writes what it prints into the README: python docs/first_screen.py"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMMAND = "python docs/examples/two_vits.py"
MARKS = "<!-- printed by docs/first_screen.py -->", "<!-- to here -->"


def placed(page: str, printed: str) -> str:
    """The page with the command and what it printed between the marks."""
    before, rest = page.split(MARKS[0])
    _, after = rest.split(MARKS[1])
    return f"{before}{MARKS[0]}\n\n```\n$ {COMMAND}\n{printed.rstrip()}\n```\n\n{MARKS[1]}{after}"


def main() -> None:
    words = [sys.executable, *COMMAND.split()[1:]]
    printed = subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    page = ROOT / "README.md"
    page.write_text(placed(page.read_text(), printed))


if __name__ == "__main__":
    main()
