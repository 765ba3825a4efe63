"""The docs do what they say: their code runs, their notebooks give the outputs they show, their pictures are drawn."""

import ast
import importlib.util
import inspect
import re
from pathlib import Path

import pytest
from notebooks import load, run

import permgraph as pg
from permgraph.symmetry.specification.put_to_use import PutToUse

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md") if "```python\n" in path.read_text(encoding="utf-8"))
NOTEBOOKS = sorted(path.name for path in (DOCS / "notebooks").glob("*.ipynb"))
VARIES = re.compile(r"[ -]?\d+(\.\d+)?(e-\d+)?")


def blocks(page: str) -> str:
    """The Python of a page: its blocks in order, each on its line of the page."""
    text = (DOCS / page).read_text(encoding="utf-8")
    lines, inside = [], False
    for line in text.splitlines():
        if line.startswith("```"):
            inside = line == "```python"
        lines.append(line if inside and not line.startswith("```") else "")
    return "\n".join(lines)


def test_there_are_pages_and_notebooks() -> None:
    assert {"index.md", "concepts.md", "inspection.md", "add-an-op.md", "derivation.md"} <= set(PAGES)
    assert NOTEBOOKS == ["adapter.ipynb", "inspect.ipynb", "merge.ipynb"]


@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_a_page_runs(page: str) -> None:
    exec(compile(blocks(page), page, "exec"), {"__name__": page})


def test_the_api_page_has_every_public_name_as_it_is_imported() -> None:
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    names = [name for name in pg.__all__ if not name.endswith(("Error", "Warning"))]
    assert [name for name in names if f"\n::: permgraph.{name}\n" not in page] == []


def called(page: str) -> set[str]:
    """The names of what the Python of a page calls."""
    calls = (node.func for node in ast.walk(ast.parse(blocks(page))) if isinstance(node, ast.Call))
    return {f.attr if isinstance(f, ast.Attribute) else f.id for f in calls if isinstance(f, ast.Attribute | ast.Name)}


def test_every_public_function_is_called_on_a_page() -> None:
    anywhere = set().union(*map(called, PAGES))
    functions = {name for name in pg.__all__ if inspect.isfunction(getattr(pg, name))}
    assert functions - anywhere == set()


def test_every_use_is_called_on_the_page_that_the_api_names() -> None:
    rows = re.findall(r"\| `([^`]+)` \| \[[^]]+\]\(([^)#]+)", (DOCS / "api.md").read_text(encoding="utf-8"))
    missing = [(name, page) for name, page in rows if name.rpartition(".")[2] not in called(page)]
    assert missing == []
    uses = [name for name, member in vars(PutToUse).items() if inspect.isfunction(member) and name[0] != "_"]
    listed = {name for name, _ in rows}
    assert {f"spec.{name}" for name in uses} | {"alignment.apply", "alignment.stream", "pg.compare"} <= listed


def test_measured_pages_do_not_begin_with_a_command() -> None:
    for path in DOCS.glob("*.md"):
        first = path.read_text(encoding="utf-8").split("\n\n")[1]
        assert not first.startswith("    python"), path.name
    assert (DOCS / "benchmarks.md").read_text(encoding="utf-8").split("\n\n")[1].startswith("- **Groups** that keep")


def test_the_derivation_is_short() -> None:
    core = blocks("derivation.md").partition("class Block")[0]
    assert len([line for line in core.splitlines() if line.strip()]) <= 150


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_gives_the_outputs_that_it_shows(name: str) -> None:
    notebook = load(DOCS / "notebooks" / name)
    stored = [cell["outputs"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for shown, given in zip(stored, run(notebook), strict=True):
        assert [words(output) for output in shown] == [words(output) for output in given]


def words(output: dict) -> str:
    """What an output says, but for its numbers, which may differ with the machine, the sign of a zero among them."""
    return VARIES.sub("#", "".join(output.get("text") or output["data"]["text/plain"]))


def test_the_pictures_are_those_that_the_script_draws() -> None:
    found = importlib.util.spec_from_file_location("draw", DOCS / "pictures" / "draw.py")
    draw = importlib.util.module_from_spec(found)
    found.loader.exec_module(draw)
    for name, picture in draw.PICTURES.items():
        assert (DOCS / "pictures" / name).read_text(encoding="utf-8") == picture(), name
