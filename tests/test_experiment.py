"""Scores, findings and order of the reference experiment, on made-up counts; the page is that of its results."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.speech_music import page
from benchmarks.speech_music.findings import conclusion, in_figures, opening, verdict
from benchmarks.speech_music.probing import FOLDS, Task, hits, learnable, splits
from benchmarks.speech_music.scoring import Experiment, interval
from benchmarks.speech_music.summary import kept
from benchmarks.speech_music.trained import MANIFEST, steps
from permgraph.demo.probes import fit_head, mixed_logits


def task(test_share: float = 0.5, groups: int = 40) -> Task:
    """Two classes, two examples a group."""
    labels = np.arange(2 * groups) % 2
    group = np.repeat(np.arange(groups), 2)
    test = group < test_share * groups
    spans = np.zeros((2 * groups, 3), np.int64)
    return Task("t", "T", "speech", "c", spans, labels, group, test)


def test_a_probe_finds_what_one_layer_holds_and_tests_on_the_other_groups() -> None:
    one, rng = task(), torch.Generator().manual_seed(0)
    inputs = torch.randn(80, 3, 8, generator=rng)
    assert hits(one, inputs, 0).mean() < 0.8
    inputs[:, 1, 0] = 4 * torch.from_numpy(one.labels).float()
    found = hits(one, inputs, 0)
    assert len(found) == one.test.sum()
    assert found.mean() > 0.9
    mixture, *_ = fit_head(inputs, torch.from_numpy(one.labels), 2)
    assert int(mixture.argmax()) == 1
    assert mixed_logits(inputs, *fit_head(inputs, torch.from_numpy(one.labels), 2)).shape == (80, 2)


@pytest.mark.parametrize("seed", [0, 1])
def test_by_cross_validation_each_example_is_tested_once_on_other_groups(seed) -> None:
    one = replace(task(1.0), crossed=True)
    found = list(splits(one, seed))
    assert len(found) == FOLDS
    assert np.array_equal(sum(test.astype(int) for _, test in found), np.ones(80))
    for train, test in found:
        assert np.array_equal(train, ~test)
        assert not set(one.groups[train]) & set(one.groups[test])
    assert len(hits(one, torch.randn(80, 3, 8), seed)) == 80
    assert (one.fitted, task().fitted) == (53, 40)
    assert one.chance == 0.5


def test_a_label_that_a_probe_may_not_have_met_is_left_out() -> None:
    """By folds, one that stands in fewer groups than there are folds; of a fixed split, one for tests alone."""
    rows = [(0, 0, 1, label, group, None) for label, groups in {"a": "123", "b": "12"}.items() for group in groups]
    assert {row[3] for row in learnable(rows, FOLDS)} == {"a"}
    rows = [(0, 0, 1, "a", "1", False), (0, 0, 1, "a", "2", True), (0, 0, 1, "b", "2", True)]
    assert {row[3] for row in learnable(rows, 1)} == {"a"}


def counts(**right: int) -> dict[str, list[list[int]]]:
    """Task -> two probe seeds -> the right examples of 20 groups of two."""
    return {name: [[2] * (n // 2) + [0] * (20 - n // 2)] * 2 for name, n in right.items()}


def experiment(tmp_path, gain: int) -> Experiment:
    """A right on 30 of 40 in speech and 4 in music, B the other way; linear on 20, an aligned row on 20 + gain."""
    both = (task(), replace(task(), name="m", domain="music"))
    for name, right in (("A", {"t": 30, "m": 4}), ("B", {"t": 4, "m": 30})):
        (tmp_path / f"{name}.json").write_text(json.dumps({"right": counts(**right)}))
    for name, right in (("linear", 20), ("proposed", 20 + gain)):
        for weight in (0.5, 0.9):
            own = {"right": counts(t=right, m=right), "cpu_seconds": 1}
            cell = {"row": name, "weight": weight, "seed": 0} | own
            (tmp_path / f"{name}@{weight}#0.json").write_text(json.dumps(cell))
    return Experiment(tmp_path, both)


@pytest.mark.parametrize(("gain", "said"), [(0, "not distinguishable"), (10, "better"), (-10, "worse")])
def test_differences_are_paired_and_read_from_their_interval(tmp_path, gain, said) -> None:
    one = experiment(tmp_path, gain)
    difference = interval(one.best("proposed")[1]["minus_linear"]["average"])
    assert difference[0] == pytest.approx(1000 * gain / 30)
    assert verdict(difference) == said
    if gain == 0:
        assert difference == [0, 0, 0]


@pytest.mark.parametrize(
    ("a", "b", "better", "counting"),
    [
        ({"t": 30, "m": 4}, {"t": 4, "m": 30}, {"t": "speech", "m": "music"}, {"speech": ["t"], "music": ["m"]}),
        ({"t": 30, "m": 30}, {"t": 30, "m": 28}, {"t": "", "m": ""}, {"speech": [], "music": []}),
        ({"t": 4, "m": 30}, {"t": 30, "m": 4}, {"t": "music", "m": "speech"}, {"speech": [], "music": []}),
        ({"t": 20, "m": 20}, {"t": 0, "m": 0}, {"t": "", "m": ""}, {"speech": [], "music": []}),
    ],
    ids=["apart", "alike", "the other way", "at chance"],
)
def test_a_task_counts_where_its_own_encoder_is_better_and_above_chance(tmp_path, a, b, better, counting) -> None:
    one = experiment(tmp_path, gain=0)
    for side, right in (("A", a), ("B", b)):
        (tmp_path / f"{side}.json").write_text(json.dumps({"right": counts(**right)}))
    assert one.better == better
    assert {domain: [task.name for task in one.counting(domain)] for domain in counting} == counting
    assert one.asked == [name for name, side in better.items() if side]


def summed_up(name, family, way, speech, gain, weight=0.5, **more) -> dict:
    """A row of results that goes `way` and keeps `speech` at one weight."""
    point = {"weight": weight, "speech": [speech, speech - 20, speech + 20], "transfer": [way, way - 9, way + 9]}
    best = {"transferred": [way, way - 9, way + 9], "transferred_at": weight, "transferred_minus_linear": gain}
    return {"name": name, "title": name, "family": family, "points": [point], "best": best, **more}


SURELY, UNSURE = [300, 200, 400], [300, -50, 400]


@pytest.mark.parametrize(
    ("way", "speech", "gain", "said"),
    [
        (734, 1010, SURELY, "Yes"),
        (734, 980, UNSURE, "Perhaps.*whether so much of the speech is kept"),
        (734, 1010, UNSURE, "Perhaps.*whether that is more than without an alignment"),
        (300, 1010, SURELY, "In part.*less than was aimed at"),
        (300, 1010, UNSURE, "No.*not surely more"),
    ],
)
@pytest.mark.parametrize("family", ["permuted", "healed"])
def test_the_answer_is_three_sentences_that_the_figures_decide(way, speech, gain, said, family) -> None:
    plain = [
        summed_up("linear", "plain", 30, 1000, [0, 0, 0], 0.9),
        summed_up("heal-as-is", "healed", 100, 900, UNSURE),
    ]
    best = summed_up("heal" if family == "healed" else "proposed", family, way, speech, gain)
    poor = summed_up("kinds", "kinds", 20, 980, UNSURE)
    contrast = {"row": "heal", "control": "heal-as-is", "weight": 0.5, "transfer": gain}
    text = opening({"one": {"rows": [*plain, best, poor], "contrasts": [contrast]}, "two": {"rows": plain}})
    assert re.match(rf"\*\*{said}", text)
    assert len(re.findall(r"[.](?=\s)", text)) == 3
    assert len(re.findall(r"\d+", text)) <= 4
    without = f"without the alignment the same learning goes 10 % of the way, {'not ' * (gain == UNSURE)}surely less."
    assert (without in text) == (family == "healed")
    assert ("does not do it" in text) == (family == "healed" or way < 500)


@pytest.mark.parametrize(
    ("control", "takes", "than_random"),
    [
        (SURELY, "an alignment (heal) and some learning after the merge", "surely lower, by 300 [200, 400] of 1000."),
        (UNSURE, "some learning after the merge", "not surely lower, by 300 [-50, 400] of 1000."),
    ],
)
def test_the_answer_speaks_of_the_mean_over_pairs_and_of_how_many_say_the_same(control, takes, than_random) -> None:
    """Of three pairs two say by themselves that without the alignment it is less; a random order is asked too."""
    rows = [
        summed_up("heal-as-is", "healed", 100, 900, UNSURE, pairs=["x", "y", "z"]),
        summed_up("heal", "healed", 620, 990, SURELY, pairs=["x", "y", "z"]),
    ]
    of = {"row": "heal", "control": "heal-as-is", "weight": 0.5}
    pairs = {
        name: {"rows": rows, "contrasts": [of | {"transfer": gain}]}
        for name, gain in zip("xyz", (SURELY, UNSURE, SURELY), strict=True)
    }
    mean = {
        "rows": [*rows, summed_up("proposed", "permuted", 20, 980, UNSURE)],
        "contrasts": [of | {"transfer": SURELY}, of | {"control": "heal-random", "average": control}],
    }
    text = opening(pairs, mean)
    assert re.match(r"\*\*Yes.*62 % of the way.*on average over 3 pairs of encoders", text)
    assert f"It takes {takes}, on unlabelled audio" in text
    assert ("that it takes an alignment too (heal) is not shown" in text) == (control is UNSURE)
    assert "goes 10 % of the way, surely less (2 of the pairs say so by themselves); with the units in" in text
    assert f"random order instead, the mean of the two scores is {than_random}" in text
    assert len(re.findall(r"[.](?=\s)", text)) == 3


@pytest.mark.parametrize(("gain", "said"), [(SURELY, "surely less"), (UNSURE, "not surely less")])
def test_the_answer_says_what_less_learning_does_and_what_no_merge_does(gain, said) -> None:
    rows = [
        summed_up("heal-as-is", "healed", 500, 910, UNSURE),
        summed_up("heal", "healed", 510, 970, UNSURE),
        summed_up("long-as-is", "longer", 750, 1000, UNSURE),
        summed_up("long", "longer", 760, 1010, SURELY),
        summed_up("long-a", "unmerged", 100, 1020, UNSURE, 1.0),
        summed_up("long-b", "unmerged", 900, 930, UNSURE, 0.0),
        summed_up("proposed", "permuted", 20, 980, UNSURE),
    ]
    contrast = {"row": "heal", "control": "heal-as-is", "weight": 0.5, "speech": gain, "average": gain}
    alone = [{"row": "long", "control": f"long-{k}", "weight": 0.5, "average": gain, "speech": gain} for k in "ab"]
    text = opening({"shipped": {"rows": rows, "contrasts": [contrast, *alone]}})
    assert f"After 150 steps of it, the aligned merge keeps 97 % of the speech and the other 91 %, {said}." in text
    assert "keeps 102 % of the speech and goes 10 % of the way where it begins at the speech encoder" in text
    alone_lower = said.replace("less", "lower than after the merge, by 300 [")
    assert "93 % and 90 % where it begins at the music encoder (shipped); in the better of these cases the mean" in text
    assert f"the mean of the two scores is {alone_lower}" in text


def test_no_merge_that_keeps_the_speech_is_said_to_be_none() -> None:
    one = summed_up("proposed", "permuted", 0, 900, UNSURE)
    one["best"]["transferred_at"] = None
    said = opening({"one": {"rows": [one]}})
    assert said.startswith("**No**: no merge")
    assert "half of each does 90 % as well" in said


def test_the_figures_of_several_pairs_stand_in_one_table() -> None:
    one = {
        "rows": [summed_up("linear", "plain", 30, 1000, UNSURE), summed_up("proposed", "permuted", 240, 730, UNSURE)]
    }
    found = in_figures({"one": one | {"AB": {"speech": [1010], "transfer": [940]}}, "two": {"rows": one["rows"][:1]}})
    assert "| one | merged | 100 % / 3 % | 73 % / 24 % | – |" in found
    assert "| one | features of both encoders side by side, twice as many | 101 % / 94 % | – | – |" in found
    assert "| two | merged | 100 % / 3 % | – | – |" in found
    assert "| pair |" not in in_figures({"one": one})
    shared = {"rows": [summed_up("proposed", "permuted", 190, 700, UNSURE, pairs=["one", "two"])]}
    assert "| mean (of pairs) | merged | – | 70 % / 19 % (2) | – |" in in_figures({"one": one, "two": one}, shared)


def test_larger_groups_are_held_against_permutations() -> None:
    rows = [summed_up(name, "kinds", 0, 900, UNSURE) for name in ("kinds", "learned")]
    gains = {"kinds": SURELY, "learned": UNSURE}
    contrasts = [{"row": row, "control": "proposed", "weight": 0.5, "average": gain} for row, gain in gains.items()]
    assert "of 2 elements of other groups or methods, 1 better than permutations" in conclusion(
        {"one": {"rows": rows, "contrasts": contrasts}}
    )
    assert "half and half" not in conclusion({"one": {"rows": rows}})


def test_the_page_says_how_long_both_encoders_were_trained() -> None:
    shipped = json.loads(MANIFEST.read_text())["ships"]["speech"]
    about = {"a": "permgraph/demo/assets/speech", "b": "data/runs/other/encoder"}
    logs = {shipped: [{"step": 200}, {"step": 2600}], "other": [{"step": 1200}]}
    said = steps(about, logs)
    assert said == f"A was trained for 2,600 steps (run {shipped}), B for 1,200 (other). "
    assert steps(about, {}) == ""
    pairs = {"one": {"about": about}, "two": {"about": about | {"pre_norm": True}}}
    assert (
        page.pairs_line(pairs, logs)
        == f'"one" has post-norm layers. {said}"two" has pre-norm layers. {said}'.strip() + "\n"
    )
    assert page.pairs_line({"one": {"about": about}}, logs) == ""


def test_transfer_is_a_number_where_a_draw_has_no_gap(tmp_path) -> None:
    """B is better on 4 test groups of 20, which one draw in a hundred misses."""
    one = experiment(tmp_path, gain=10)
    found = {side: {"t": [[2 * speech] * 20] * 2} for side, speech in (("A", 1), ("B", 0))}
    found["A"]["m"], found["B"]["m"] = [[2] * 15 + [0] * 5] * 2, [[2] * 19 + [0]] * 2
    for side, right in found.items():
        (tmp_path / f"{side}.json").write_text(json.dumps({"right": right}))
    low, high = one.alone["m"]
    assert one.better["m"] == "music"
    assert (high == low).any()
    best = one.best("proposed")[1]
    assert np.isfinite(best["transferred"]).all()
    assert np.isfinite(one.difference("proposed", "linear", 0.5)["transfer"]).all()


def test_a_row_without_cells_is_kept_only_where_the_rest_reproduces(tmp_path) -> None:
    for folder in ("whole", "part", "fewer", "other"):
        (tmp_path / folder).mkdir()
    about = json.dumps({"hidden": 1})
    before, part, fewer, other = (experiment(tmp_path / name, gain=10) for name in ("whole", "part", "fewer", "other"))
    for one in (before, part, fewer, other):
        (one.folder / "about.json").write_text(about)
        (one.folder / "certificates-1-1.json").write_text(json.dumps({"certified": 1, "worst": 0.0}))
    for cell in [*part.folder.glob("proposed@*"), *other.folder.glob("proposed@*")]:
        cell.unlink()
    (fewer.folder / "proposed@0.9#0.json").unlink()
    cell = json.loads((other.folder / "linear@0.5#0.json").read_text())
    cell["right"]["t"][0][0] = 0
    (other.folder / "linear@0.5#0.json").write_text(json.dumps(cell))
    whole = before.result()
    assert kept(whole, part.result())["rows"] == whole["rows"]
    assert kept(whole, fewer.result())["rows"] == whole["rows"]
    assert [row["name"] for row in kept(whole, other.result())["rows"]] == ["linear"]
