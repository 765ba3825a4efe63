"""The README's Python and commands are run, and print what it says; source lines and rounding errors may differ."""

import doctest
import re
import runpy
import shlex
from itertools import zip_longest
from pathlib import Path

import pytest
from commands import run

README = Path(__file__).parents[1] / "README.md"
VARIES = re.compile(r"\.py:\d+|max error [\d.e-]+|-?\d\.\d\d(?= ->)|(?<=-> )\d\.\d\d")


class Checker(doctest.OutputChecker):
    """Compares all but line numbers of other libraries and figures that depend on the machine's arithmetic."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        return super().check_output(VARIES.sub("#", want), VARIES.sub("#", got), optionflags)


def test_readme(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(README.parent)
    text = README.read_text(encoding="utf-8")
    python = "\n".join(re.findall(r"```pycon\n(.*?)```", text, flags=re.DOTALL))
    case = doctest.DocTestParser().get_doctest(python, {}, "README", str(README), 0)
    assert len(case.examples) >= 10
    failed, _ = doctest.DocTestRunner(Checker(), optionflags=doctest.NORMALIZE_WHITESPACE).run(case)
    assert failed == 0


NUMBER = re.compile(r"[-+]?\d+\.\d+%?|max error [\d.e-]+")
NEAR = 0.02


def test_commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(README.parent)
    for block in re.findall(r"```\n(\$ permgraph .*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL):
        for words, shown in re.findall(r"^\$ permgraph (.*)\n((?:[^$].*\n)*)", block.replace("\\\n", ""), re.MULTILINE):
            words = re.sub(r"out/merged|speech\.html", lambda found: str(tmp_path / Path(found[0]).name), words)
            lines = [line.strip() for line in run(*shlex.split(words)).stdout.splitlines() if line.strip()]
            if shown:
                assert_alike(lines, shown.splitlines(), str(tmp_path / "merged"))


@pytest.mark.slow
def test_the_first_screen_is_what_the_example_prints() -> None:
    text = README.read_text(encoding="utf-8")
    shown = re.search(r"```\n\$ python docs/examples/two_vits.py\n(.*?)```", text, re.DOTALL)
    assert shown is not None
    example = runpy.run_path(str(README.parent / "docs" / "examples" / "two_vits.py"))
    assert_alike(list(example["lines"](example["STEPS"])), shown[1].splitlines(), "out/merged")


def assert_alike(lines: list[str], shown: list[str], out: str) -> None:
    """The same words, and numbers that are near."""
    for line, wanted in zip_longest(lines, (line.strip() for line in shown), fillvalue=""):
        line = line.replace(out, "out/merged")
        assert NUMBER.sub("#", line).split() == NUMBER.sub("#", wanted).split()
        for found, number in zip(NUMBER.findall(line), NUMBER.findall(wanted), strict=True):
            if "max" not in number:
                near = NEAR * (100 if number.endswith("%") else 1)
                assert float(found.rstrip("%")) == pytest.approx(float(number.rstrip("%")), abs=near), line
