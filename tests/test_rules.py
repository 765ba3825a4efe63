"""Each operation judges its rule; the table has one rule for each operation."""

import importlib

import pytest
import torch
from stated_rules import loose, says

from permgraph.algebra.laws import LINEAR
from permgraph.judging.__main__ import main
from permgraph.judging.verdict import judge, missed_changes
from permgraph.rules import RULES, Example, registry
from permgraph.rules.examples import EXAMPLES, OTHER_FORMS, UNJUDGED
from permgraph.rules.registry import GIVEN, IGNORED

EXAMPLE_IDS = [f"{example.op}-{k}" for k, example in enumerate(EXAMPLES)]
UNREAD = "positions that are not read may change places with positions that are not read either"
PAIRS = "positions that are treated alike, but by pairs or windows"
KNOWN_MISSES = {
    "aten.adaptive_avg_pool1d": PAIRS,
    "aten.argmax": "the positions of the other axis are data of the outputs",
    "aten.avg_pool2d": PAIRS,
    "aten.fft_fft": PAIRS,
    "aten.fft_rfftn": PAIRS,
    "aten.flip": "the two ends of a mirrored axis",
    "aten.grid_sampler": "positions of the grid, which are pinned as positions",
    "aten.index": UNREAD,
    "aten.index_add": UNREAD,
    "aten.index_fill": UNREAD,
    "aten.index_select": UNREAD,
    "aten.max_pool1d": PAIRS,
    "aten.max_pool2d": PAIRS,
    "aten.narrow": UNREAD,
    "aten.select": UNREAD,
    "aten.slice": UNREAD,
    "aten.view_as_complex": PAIRS,
}


POINTWISE = {
    *("aten.abs", "aten.addcdiv", "aten.addcmul", "aten.clamp", "aten.lerp", "aten.maximum", "aten.pow"),
    *("aten.reciprocal", "aten.rsqrt", "aten.sign", "aten.sqrt", "aten.tanh"),
}
NORMS = {"aten.linalg_vector_norm", "aten.norm", "aten.std", "aten.var"}
QUICK = 3
WHOLE = [e for e in EXAMPLES if e.op in POINTWISE | NORMS | {"aten.cdist", "aten.linear", "aten.mm"}]


def some(examples):
    """All of the examples, of which only one of every so many runs without the slow tests."""
    return [
        pytest.param(example, id=str(example), marks=[pytest.mark.slow] if k % QUICK else [])
        for k, example in enumerate(examples)
    ]


@pytest.mark.parametrize("example", WHOLE, ids=[f"{example.op}-{k}" for k, example in enumerate(WHOLE)])
def test_no_change_is_missed(example):
    assert not missed_changes(example)


def test_a_law_that_is_left_out_is_missed(monkeypatch):
    monkeypatch.setitem(RULES, "aten.mm", says("m k, k n -> m n", "self", "mat2"))
    example = next(example for example in EXAMPLES if example.op == "aten.mm")
    assert "invertible on p0[1], p1[0]^-1" in [str(one) for one in missed_changes(example)]


def test_a_law_that_is_too_large_is_wrong(monkeypatch):
    monkeypatch.setitem(RULES, "aten.tanh", says("... -> ...", "self", law=LINEAR))
    example = next(example for example in EXAMPLES if example.op == "aten.tanh")
    assert "all" in {kinds for kinds, _ in judge(example, trials=3).wrong}


@pytest.mark.parametrize("example", EXAMPLES, ids=EXAMPLE_IDS)
def test_no_rule_claims_too_much(example):
    verdict = judge(example, trials=3)
    assert not verdict.wrong
    assert not verdict.missed or example.op in KNOWN_MISSES


@pytest.mark.parametrize("example", some(OTHER_FORMS))
def test_no_rule_claims_too_much_for_another_form_of_its_operation(monkeypatch, example):
    asked, rule = [], RULES[example.op]

    def recorded(call):
        asked.append(call.source.op)
        rule(call)

    monkeypatch.setitem(RULES, example.op, recorded)
    assert not judge(example, 2, swaps=False).wrong
    assert asked


def test_every_operation_with_a_rule_has_a_call_that_judges_it_or_a_reason_why_not():
    judged = {example.op for example in (*EXAMPLES, *OTHER_FORMS)}
    own = {name for name, found in RULES.items() if found.__module__.startswith("permgraph.rules.")}
    assert own - judged == UNJUDGED.keys()


def test_known_misses_are_missed():
    missed = {example.op for example in EXAMPLES if example.op in KNOWN_MISSES and judge(example, trials=0).missed}
    assert missed == set(KNOWN_MISSES)


def test_every_example_has_a_rule_of_its_own_or_is_pointwise():
    pointwise = {"aten.add", "aten.mul", "aten.relu", "aten.leaky_relu", *POINTWISE}
    assert {example.op for example in EXAMPLES} <= set(RULES) | pointwise


def test_a_second_rule_for_an_operation_is_an_error():
    with pytest.raises(ValueError, match=r"aten\.linear has a rule already: linear in permgraph"):
        registry.rule("aten.linear")(lambda call: None)


def test_a_cell_with_a_rule_can_be_run_again(monkeypatch):
    monkeypatch.setattr(registry, "RULES", dict(RULES))
    for text in ("1", "2"):
        space = {"rule": registry.rule, "__name__": "cell"}
        exec(f"@rule('aten.special_log_ndtr')\ndef mine(call): return {text}", space)
        assert registry.RULES["aten.special_log_ndtr"] is space["mine"]
    registry.rule("aten.linear", replace=True)(space["mine"])
    assert registry.RULES["aten.linear"] is space["mine"]


def test_an_operation_without_a_call_is_an_error_of_the_command(capsys):
    assert main(["--op", "gated_sum"]) == 2
    assert "no call of gated_sum is known: register its rule" in capsys.readouterr().err
    assert main(["--op", "_assert_async"]) == 2
    assert "no call of _assert_async is known: it has no result" in capsys.readouterr().err


def test_the_call_that_a_rule_comes_with_judges_it(monkeypatch, capsys):
    for table in (RULES, IGNORED, GIVEN):
        monkeypatch.setitem(table, "aten.special_i1e", ())  # puts back what is there now
    call = Example("aten.special_i1e", torch.special.i1e, ((2, 3),))
    registry.rule("aten.special_i1e", example=call, replace=True)(lambda call: call.pin_all("for the test"))
    assert main(["--op", "special_i1e"]) == 0
    said = capsys.readouterr()
    assert "missed  aten.special_i1e([2, 3]): p0[0]" in said.out
    assert said.err.startswith("1 calls judged")


def test_the_former_name_of_the_command_warns():
    with pytest.warns(FutureWarning, match=r"permgraph\.rules\.validate is now called permgraph\.judging"):
        assert importlib.import_module("permgraph.rules.validate").judge is judge


def test_the_command_names_one_operation(capsys):
    assert main(["--op", "linear"]) == 0
    assert "4 calls judged" in capsys.readouterr().err


def test_the_command_names_what_is_missed(monkeypatch, capsys):
    monkeypatch.setitem(RULES, "aten.mm", says("m k, k n -> m n", "self", "mat2"))
    assert main(["--op", "aten.mm", "--changes"]) == 0
    assert "missed  aten.mm([2, 3], [3, 4]): invertible on p0[1], p1[0]^-1" in capsys.readouterr().out


def test_a_wrong_claim_is_an_error_of_the_command(monkeypatch, capsys):
    monkeypatch.setitem(RULES, "aten.linear", loose)
    assert main(["--op", "aten.linear"]) == 1
    assert "wrong   aten.linear([2, 3], [5, 3], [5])" in capsys.readouterr().out
