"""Usage errors of the command line: exit status 2, on stderr, before any work."""

import re

import pytest
from commands import run

USAGE = {
    "no command": ((), "Usage:"),
    "unknown command": (("merg",), "merg"),
    "unknown option": (("inspect", "x", "--no-such"), "--no-such"),
    "no model": (("inspect",), "MODEL"),
    "no second model": (("merge", "x", "--out", "y"), "B"),
    "no output": (("merge", "x", "y"), "--out"),
    "weight too large": (("merge", "x", "y", "--out", "z", "--weight", "1.5"), "--weight"),
    "weight no number": (("merge", "x", "y", "--out", "z", "--weight", "much"), "--weight"),
    "weight by role": (("merge", "x", "y", "--out", "z", "--weight", "attention=much"), "--weight"),
    "weight by role of three": (("merge", "x", "y", "w", "--out", "z", "--weight", "conv=0.5"), "two models"),
    "merge without data": (("merge", "x", "y", "--out", "z", "--merge", "regmean"), "--data"),
    "a merge of three by a method for two": (
        ("merge", "x", "y", "w", "--out", "z", "--merge", "slerp"),
        "merges two models, and 3 are given",
    ),
    "unknown merge": (("merge", "x", "y", "--out", "z", "--merge", "mean"), "mean"),
    "unknown method": (("align", "x", "y", "--out", "z", "--method", "guess"), "guess"),
    "correlation without data": (("align", "x", "y", "--out", "z", "--method", "correlation"), "--data"),
    "mix and method": (("align", "x", "y", "--out", "z", "--method", "weights", "--mix", "0.5"), "not both"),
    "steps without learning": (("merge", "x", "y", "--out", "z", "--steps", "9"), "--steps 9 is for learning"),
    "mix too large": (("merge", "x", "y", "--out", "z", "--mix", "1.5"), "--mix is a share"),
    "mix without data": (("merge", "x", "y", "--out", "z", "--mix", "0.5"), "--data"),
    "loss of three": (("merge", "x", "y", "w", "--out", "z", "--loss", "own"), "between two models"),
    "own loss without data": (("merge", "x", "y", "--out", "z", "--loss", "own"), "give them with --data"),
    "a role twice": (("merge", "x", "y", "--out", "z", "--weight", "conv=0.5,conv=0.7"), "gives 'conv' two shares"),
    "limit without data": (("align", "x", "y", "--out", "z", "--limit", "5"), "give the data with --data"),
    "trust without a recipe": (("merge", "x", "y", "--out", "z", "--allow-code"), "give one with --config"),
    "a model that is empty": (("merge", "", "y", "--out", "z"), "the argument after the command is empty"),
    "a folder that is empty": (("align", "x", "y", "--out", ""), "the argument after --out is empty"),
    "data that is empty": (("align", "x", "y", "--out", "z", "--data="), "the argument after --data is empty"),
    "two outputs on stdout": (("inspect", "x", "--html", "-", "--json"), "--json and --html both write to stdout"),
    "a page and JSON on stdout": (("compare", "x", "y", "--html", "-", "--json"), "both write to stdout"),
    "two outputs in a file": (("inspect", "x", "--html", "y", "--dot", "y"), "--html and --dot both write to y"),
    "no role": (("align", "x", "y", "--out", "z", "--groups", ","), "--groups"),
    "no dimension": (("explain", "x", "weight"), "PARAM:DIM"),
    "unknown outputs": (("inspect", "x", "--outputs", "open"), "'--outputs': 'open' is not one of"),
    "no trials": (("verify", "x", "--trials", "0"), "'--trials': it should be greater"),
}


@pytest.mark.parametrize("name", USAGE)
def test_usage_errors(name):
    words, expected = USAGE[name]
    result = run(*words, code=2)
    assert expected in result.stderr + result.stdout
    assert not words or re.search("^error: ", result.stderr, re.MULTILINE), result.stderr
    assert "Error: " not in result.output
    assert "Traceback" not in result.output
