"""The README's Python is run, and prints what the README says; source lines and rounding errors may differ."""

import doctest
import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
VARIES = re.compile(r"\.py:\d+|max error [\d.e-]+|\d\.\d\d(?= ->)|(?<=-> )\d\.\d\d")


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
