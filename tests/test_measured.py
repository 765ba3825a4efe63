"""Figures of benchmarks say what they were measured with."""

import re
from pathlib import Path

from benchmarks.measured_with import measured_with

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
WRITES = re.compile(r"(RESULT|TIMES|path|out)\.write_text\(json")
ELSEWHERE = {
    "reference.py": "runs in an environment of its own, with TensorFlow",
    "summary.py": "sums up what runs have written, each with its line",
    "architectures.py": "measures nothing",
}
TEXTS = {path: path.read_text(encoding="utf-8") for path in sorted(BENCHMARKS.rglob("*.py"))}
WRITERS = [path for path, text in TEXTS.items() if WRITES.search(text) and "results" in text.lower()]


def test_a_line_has_the_commit_the_day_the_processor_and_the_versions():
    assert re.fullmatch(r"[\w +]+, \d{4}-\d\d-\d\d, \d+ cores of .+, Python 3.*, torch .*, numpy .*", measured_with())


def test_every_result_says_what_it_was_measured_with():
    assert len(WRITERS) > 15
    assert {path.name for path in WRITERS if "measured_with()" not in TEXTS[path]} <= ELSEWHERE.keys()
