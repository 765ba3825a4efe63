"""docs/architecture.md says where things are, and they are there; the files for contributors are well-formed."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FLOORS = [re.split(r" [:|] ", floor) for floor in PROJECT["tool"]["importlinter"]["contracts"][1]["layers"]]


def test_the_floors_are_those_that_the_linter_keeps() -> None:
    picture = PAGE.partition("```\n")[2].partition("```")[0]
    named = [re.findall(r"^\w+(?: +(?:demo|adapters)\b)?|(?<=  )assignment", line) for line in picture.splitlines()]
    rows = [" ".join(words).split() for words in named if words]
    assert rows == [[name.removeprefix("permgraph.") for name in floor] for floor in FLOORS]
    modules = {p.stem for p in (ROOT / "permgraph").iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()}
    assert modules - {"__init__", "__main__"} == {name for row in rows for name in row}


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`([\w/]+\.py|[\w/]+/[\w/]+)`", PAGE))))
def test_every_file_that_is_named_is_there(path: str) -> None:
    assert (ROOT / path).exists() or (ROOT / "permgraph" / path).exists()


def test_a_newcomer_finds_one_file_for_each_question() -> None:
    rows = re.findall(r"^\| (a [\w ]+) \| ([^|]+) \|", PAGE.partition("## Where do I add")[2], re.MULTILINE)
    assert {"a rule for an operation", "a matcher", "a merge method", "a model family"} <= {what for what, _ in rows}
    for what, where in rows:
        assert len(re.findall(r"`[\w/]+(?:\.py)?`", where)) in (1, 2), what  # a folder, and one file as an example


@pytest.mark.parametrize(
    "path", [".github/workflows/tests.yml", ".github/workflows/docs.yml", ".github/workflows/release.yml"]
)
def test_workflows_run_targets_that_there_are(path: str) -> None:
    workflow = yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))
    runs = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    targets = re.findall(r"make (\w+)", "\n".join(runs))
    assert targets
    assert all(re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE) for target in targets)


def test_the_lowest_job_and_the_hooks_name_what_there_is() -> None:
    tests = (ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    assert all((ROOT / name).is_file() for name in re.findall(r"tests/\w+\.py", tests))
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    developed = " ".join(PROJECT["project"]["optional-dependencies"]["dev"])
    tools = {"lint-imports": "import-linter"}
    for hook in hooks:
        tool = Path(hook["entry"].split()[0]).name
        assert tools.get(tool, tool) in developed


def test_the_citation_is_complete() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors", "license"} <= set(citation)
    assert citation["license"] == PROJECT["project"]["license"]
