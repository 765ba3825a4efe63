"""The package of docs/how-to-add-a-method.md, installed as a distribution of its own: methods, a matcher and rules."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import run
from pairs import mlp, vectors
from safetensors.torch import load_file
from torch import Tensor, nn

import permgraph as pg
from permgraph import plugins
from permgraph.matching.match import matcher
from permgraph.merging import merge_method
from permgraph.rules import installed

PAGE = Path(__file__).parents[1] / "docs" / "how-to-add-a-method.md"
BLOCK = re.compile(r'^```\w+ title="(?P<name>[^"]+)"\n(?P<text>.*?)^```$', re.DOTALL | re.MULTILINE)
X = vectors()[0]

MODELS = """
import torch
from torch import nn

@torch.library.custom_op("acme::smooth", mutates_args=())
def smooth(x: torch.Tensor) -> torch.Tensor:
    return x.mean(1, keepdim=True).expand_as(x).contiguous()

@smooth.register_fake
def _(x):
    return torch.empty_like(x)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(4, 8), nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.last(torch.relu(self.second(torch.ops.acme.smooth(self.first(x)))))

def make(seed):
    torch.manual_seed(seed)
    return Net().eval(), (torch.ones(2, 5, 4),), {}

def base(): return make(0)
def a(): return make(1)
def b(): return make(2)
def c(): return make(3)
"""


def distribution(site: Path, name: str, points: dict[str, dict[str, str]], **modules: str) -> None:
    """What pip leaves of a distribution: its modules, and its metadata."""
    site.mkdir(exist_ok=True)
    for module, text in modules.items():
        (site / f"{module}.py").write_text(text)
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"[{group}]\n" + "\n".join(f"{k} = {v}" for k, v in named.items()) for group, named in points.items()]
    (info / "entry_points.txt").write_text("\n".join(lines))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of installed distributions with the package of the page in it, and models beside it."""
    root = tmp_path_factory.mktemp("doors")
    (root / "package").mkdir()
    for found in BLOCK.finditer(PAGE.read_text(encoding="utf-8")):
        (root / "package" / found["name"]).write_text(found["text"])
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    command = [*pip, "--disable-pip-version-check", "--target", root / "site", root / "package"]
    subprocess.run(command, check=True, capture_output=True)
    (root / "site" / "acme_models.py").write_text(MODELS)
    return root / "site"


def permgraph(site: Path, folder: Path, *words: object) -> str:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "permgraph", *map(str, words)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_installed_is_listed(site: Path, tmp_path: Path) -> None:
    found = json.loads(permgraph(site, tmp_path, "adapters", "--json"))["plugins"]
    assert [(one["kind"], one["name"], one["distribution"], one["problem"]) for one in found] == [
        ("rules", "acme", "acme-merging 0.1", None),
        ("matcher", "norm", "acme-merging 0.1", None),
        ("merge method", "arithmetic", "acme-merging 0.1", None),
        ("merge method", "ties", "acme-merging 0.1", None),
    ]
    assert found[0]["about"] == "acme.smooth"
    assert "arXiv 2306.01708" in found[3]["about"]


def test_the_command_line_merges_three_models_by_it(site: Path, tmp_path: Path) -> None:
    models = [f"python:acme_models:{name}" for name in ("a", "b", "c", "base")]
    options = ("--method", "norm", "--merge", "ties", "--base", models[3], "--option", "density=0.5")
    out = tmp_path / "out"
    permgraph(site, tmp_path, "merge", *models[:3], *options, "--out", out)
    report = json.loads((out / "permgraph.json").read_text())
    assert report["method"] == "norm"
    assert report["merge"]["method"] == "ties"
    assert report["merge"]["options"] == {"density": 0.5}
    assert report["merge"]["base"]["model"] == models[3]
    assert "first.hidden" in report["groups"]  # what the rule allows
    assert all(len(tensor) for tensor in load_file(out / "model.safetensors").values())
    permgraph(site, tmp_path, "merge", "--config", out / "recipe.toml", "--allow-code", "--out", tmp_path / "again")
    ours, again = (load_file(folder / "model.safetensors") for folder in (out, tmp_path / "again"))
    assert all(torch.equal(ours[name], again[name]) for name in ours)


def test_the_command_line_aligns_two_models_by_it(site: Path, tmp_path: Path) -> None:
    models = [f"python:acme_models:{name}" for name in ("a", "b")]
    told = permgraph(site, tmp_path, "align", *models, "--method", "norm", "--out", tmp_path / "out")
    assert "matched by norm" in told


@pytest.fixture
def here(site: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package in this process, for one test."""
    monkeypatch.syspath_prepend(str(site))
    for table in (matcher, merge_method):
        monkeypatch.setattr(table, "_known", dict(table._known))
    installed.installed_rules.cache_clear()
    yield site
    installed.installed_rules.cache_clear()


def family() -> list[nn.Module]:
    models = [mlp() for _ in range(4)]
    for seed, model in enumerate(models):
        torch.manual_seed(seed)
        for parameter in model.parameters():
            nn.init.normal_(parameter)
    return models


def test_methods_take_base_and_options_and_any_number_of_models(here: Path) -> None:
    base, *models = family()
    spec = pg.derive(base, (X,))
    still = [spec.identity()] * 3
    merged = pg.merge_many(models, still, spec=spec, method="arithmetic", base=base, scale=3.0)
    for name, tensor in base.state_dict().items():
        expected = tensor + sum(model.state_dict()[name] - tensor for model in models)
        torch.testing.assert_close(merged[name], expected)
    a, b = models[:2]
    dense = pg.merge(a, b, method="ties", base=base.state_dict(), density=1.0)
    for name, tensor in base.state_dict().items():
        x, y = (model.state_dict()[name] - tensor for model in (a, b))
        agree = x.sign() == y.sign()
        larger = torch.where(x.abs() > y.abs(), x, y)
        torch.testing.assert_close(dense[name] - tensor, torch.where(agree, (x + y) / 2, larger), atol=1e-5, rtol=1e-4)


def test_what_a_method_does_to_its_tensors_changes_no_model(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def overwriting(tensors: list[Tensor], shares: list[float]) -> Tensor:
        return tensors[0].zero_()

    monkeypatch.setitem(merge_method._known, "own", plugins.Registered("own", overwriting, distribution="acme 1"))
    model = mlp()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    pg.merge(model, mlp(), method="own")
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_matcher_is_asked_by_name_and_its_element_is_proved(here: Path) -> None:
    a, b, *_ = family()
    found = pg.align(a, b, args=(X,), method="norm", descending=True)
    assert found.method == "norm"
    assert found.certificate.ok
    assert any(found.permutations.moved.values())
    torch.testing.assert_close(
        found.state_dict["0.weight"].norm(dim=1).argsort(), a.state_dict()["0.weight"].norm(dim=1).argsort()
    )


REFUSED: dict[str, tuple[Callable[..., Any], type[Exception], str]] = {
    "an unknown option": (
        lambda a, b, base: pg.merge(a, b, method="ties", base=base, densty=0.1),
        pg.OptionError,
        'method "ties" has no option densty: it has base, density, scale; did you mean density',
    ),
    "no base": (
        lambda a, b, base: pg.merge(a, b, method="ties"),
        pg.OptionError,
        'method "ties" needs the option base: give base=',
    ),
    "a base that the method does not take": (
        lambda a, b, base: pg.merge(a, b, base=base),
        pg.OptionError,
        'method "linear" has no option base',
    ),
    "a base of another architecture": (
        lambda a, b, base: pg.merge(a, b, method="ties", base=mlp(13)),
        pg.SpecMismatchError,
        r"the base is of another architecture: 0.weight is \(13, 5\) there and \(12, 5\)",
    ),
    "an option of a matcher": (
        lambda a, b, base: pg.align(a, b, args=(X,), method="norm", up=True),
        pg.OptionError,
        'method "norm" has no option up: it has descending',
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(here: Path, case: str) -> None:
    call, error, message = REFUSED[case]
    base, a, b, _ = family()
    with pytest.raises(error, match=message):
        call(a, b, base)


BROKEN: dict[str, tuple[dict[str, str], str, str]] = {
    "an import that fails": ({"bad": "nowhere_at_all:merge"}, "bad", "'bad' of broken 1.0 cannot be loaded: Module"),
    "no function": ({"bad": "broken_merges:NUMBER"}, "bad", "'bad' of broken 1.0 is a int, not a function"),
    "another shape": ({"bad": "broken_merges:scalar"}, "bad", r"returned shape \(\) for 0.weight, which has shape"),
    "no tensor": ({"bad": "broken_merges:nothing"}, "bad", "returned a NoneType for 0.weight"),
    "a name of two packages": (
        {"ties": "broken_merges:scalar"},
        "ties",
        "the merge method 'ties' comes from acme-merging 0.1 and broken 1.0. It is not clear",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_package_is_named(here: Path, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points, method, message = BROKEN[case]
    module = "NUMBER = 1\ndef scalar(tensors, shares): return tensors[0].sum()\ndef nothing(tensors, shares): pass\n"
    distribution(tmp_path / "broken", "broken", {"permgraph.merges": points}, broken_merges=module)
    monkeypatch.syspath_prepend(str(tmp_path / "broken"))
    a, b, *_ = family()
    with pytest.raises(pg.PluginError, match=message):
        pg.merge(a, b, method=method)
    listed = {one.name: one.problem for one in merge_method.installed()}
    assert set(listed) >= {method, "arithmetic"}
    assert bool(listed[method]) == ("returned" not in message)


def test_a_plugin_with_a_name_of_this_package_is_left_out_and_listed(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = {"permgraph.merges": {"linear": "task_vectors:ties"}}
    distribution(tmp_path / "more", "more", points)
    monkeypatch.syspath_prepend(str(tmp_path / "more"))
    assert [one.problem for one in merge_method.installed() if one.name == "linear"] == [
        "permgraph has a merge method of this name"
    ]


def test_rules_that_cannot_be_imported_are_told_where_one_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distribution(
        tmp_path / "site",
        "worse",
        {"permgraph.rules": {"worse": "worse_rules"}},
        worse_rules="from permgraph.rules import rule\n@rule('aten.linear')\ndef again(call): ...\n",
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    installed.installed_rules.cache_clear()
    try:
        (found,) = installed.installed_rules()
        assert "aten.linear has a rule already" in found.problem
        assert installed.problems().startswith("; rules 'worse' of worse 1.0 cannot be loaded: ValueError")
    finally:
        monkeypatch.undo()
        installed.installed_rules.cache_clear()
    assert installed.problems() == ""


@pytest.mark.parametrize("text", ["density", "=1", "a b=1"])
def test_options_of_the_command_line_are_names_with_values(text: str) -> None:
    refused = run("merge", "x", "y", "--out", "z", "--option", text, code=2)
    assert "is not of the form NAME=VALUE; write it as density=0.2" in refused.stderr
