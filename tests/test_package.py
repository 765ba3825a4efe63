"""What an installed package promises: its names, its types, its version, and the packages that it needs."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import permgraph as pg

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DISTRIBUTIONS = {"PIL": "pillow", "tensorflow": "tensorflow_cpu", "yaml": "pyyaml"}

SCRIPT = """
from torch import nn
import permgraph as pg

model: nn.Module = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
spec: pg.PermutationSpec = pg.derive(model, ())
found: pg.Alignment = pg.align(model, model, [])
names: list[str] = [group.name for group in spec.groups]
ok: bool = pg.verify(model, spec=spec).ok
merged = pg.merge(model, model, alignment=found, weight=0.3)
first: pg.Permutations = pg.match_many([model, model])[0]
"""
WRONG = """
import permgraph as pg

weight: str = pg.PermutationSpec.from_json("{}").coverage
"""


def test_the_public_names_are_listed_each_once() -> None:
    named = [
        alias.name
        for node in ast.parse((ROOT / "permgraph" / "__init__.pyi").read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    assert sorted(named) == sorted(set(named)) == list(pg.__all__)
    assert dir(pg) == sorted([*named, "__version__"])
    assert all(getattr(pg, name).__module__.startswith("permgraph.") for name in named)
    assert all(getattr(pg, name).__doc__ for name in named)
    with pytest.raises(AttributeError, match="has no attribute 'algin'"):
        pg.algin  # noqa: B018


@pytest.mark.parametrize(
    ("script", "error"), [(SCRIPT, ""), (WRONG, 'expression has type "float"')], ids=["right", "wrong"]
)
def test_a_users_script_is_type_checked(script: str, error: str, tmp_path: Path) -> None:
    assert (ROOT / "permgraph" / "py.typed").is_file()
    (tmp_path / "script.py").write_text(script)
    words = ["--strict", "--config-file=", "--follow-imports=silent", f"--cache-dir={ROOT / '.mypy_cache' / 'user'}"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *words, "script.py"],
        cwd=tmp_path,
        env=os.environ | {"MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) == (not error), done.stdout + done.stderr
    assert error in done.stdout


def test_the_version_is_said_once() -> None:
    assert "version" in PROJECT["dynamic"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", pg.__version__)
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## {pg.__version__}" in changes or "## Unreleased" in changes


def imported(folder: Path) -> Iterator[str]:
    """The first part of every module that is imported, also by `import_module`; and what PyTorch does not declare."""
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield "expecttest" if node.module.startswith("torch.testing._internal") else node.module.split(".")[0]
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "import_module":
                yield from (str(x.value).partition(".")[0] for x in node.args if isinstance(x, ast.Constant))


def names(requirements: Iterable[str]) -> set[str]:
    """The names in requirements such as `permgraph[hub]>=1`, as modules are written."""
    return {re.split(r"[\[><=~! ]", one)[0].lower().replace("-", "_") for one in requirements}


EXTRAS = PROJECT["optional-dependencies"]
USERS = names([*PROJECT["dependencies"], *(one for name in EXTRAS if name != "dev" for one in EXTRAS[name])])
DEVELOPERS = USERS | names(EXTRAS["dev"]) | {"torchvision"}  # which the Makefile installs beside the environment


def in_their_own_folder() -> set[str]:
    """What benchmarks say is to be installed for them, into a folder or an environment of its own."""
    texts = [
        path.read_text(encoding="utf-8") for path in (ROOT / "benchmarks").rglob("*") if path.suffix in (".py", ".md")
    ]
    return names(" ".join(line for text in texts for line in re.findall(r"^ +pip install (.*)", text, re.M)).split())


@pytest.mark.parametrize(
    ("folder", "declared"),
    [
        # expecttest: for `permgraph.judging --samples`, which names it; IPython: in a notebook, which has it
        ("permgraph", USERS | {"expecttest", "IPython"}),
        ("adapters", USERS),
        ("docs", DEVELOPERS),
        ("tests", DEVELOPERS),
        ("benchmarks", DEVELOPERS | in_their_own_folder()),
    ],
)
def test_every_package_that_is_imported_is_declared(folder: str, declared: set[str]) -> None:
    own = {path.stem for where in (folder, "tests") for path in (ROOT / where).rglob("*") if path.suffix in (".py", "")}
    given = own | {"permgraph", "permgraph_adapters", "benchmarks", *sys.stdlib_module_names}
    assert {DISTRIBUTIONS.get(name, name) for name in set(imported(ROOT / folder)) - given} <= declared
