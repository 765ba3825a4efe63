"""Means over pairs of encoders, and pairs of one domain, of the reference experiment; on made-up counts and states."""

import json

import numpy as np
import pytest
import torch
from pairs import HUBERT, spread
from transformers import HubertModel

from benchmarks.speech_music import agreement, one_domain, run, summary as summing
from benchmarks.speech_music.findings import worth
from benchmarks.speech_music.one_domain_tables import one_domain_section
from benchmarks.speech_music.pair import Calibration, Encoders
from benchmarks.speech_music.probing import Task
from benchmarks.speech_music.scoring import MEASURES, interval
from benchmarks.speech_music.together import drawn, mean, together
from benchmarks.speech_music.trained import taught

APART, SHARED = [("s1", "m1"), ("s2", "m2")], [("s1", "m1"), ("s1", "m2")]


@pytest.mark.parametrize(("pairs", "alone"), [(APART, True), (SHARED, False), ([("s1", "m1")], False)])
def test_encoders_are_drawn_anew_not_pairs(pairs, alone) -> None:
    """Two pairs apart: a draw may hold either alone; two that share the A: never other As than that one."""
    shares = drawn(pairs)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    np.testing.assert_allclose(shares[0], 1 / len(pairs))
    whole = (shares.max(axis=1) == 1).mean()
    assert (whole > 0.6) == (alone or len(pairs) == 1)


def test_the_mean_over_one_pair_has_its_interval_and_over_two_that_differ_a_wider_one() -> None:
    one = [100.0, 60.0, 180.0]
    np.testing.assert_allclose(interval(mean([one], drawn([("s", "m")]))), one, atol=8)
    low, high = interval(mean([one, [300.0, 260.0, 380.0]], drawn(APART)))[1:]
    assert low < 90
    assert high > 340


def summary(way: float, names=("linear", "long", "long-as-is")) -> dict:
    """A pair on which `long` goes `way` further than `long-as-is`; every row keeps the speech at one half."""
    score = {"linear": 10.0, "long-as-is": 400.0, "long": 400.0 + way}
    spans = {name: {key: [1000.0, 990.0, 1010.0] for key in MEASURES} for name in names}
    spans = {name: one | {"transfer": [score[name], score[name] - 5, score[name] + 5]} for name, one in spans.items()}
    rows = [
        {"name": name, "title": name, "family": "longer", "points": [{"weight": 0.5, **one}]}
        for name, one in spans.items()
    ]
    gain = {key: [way, way - 7, way + 7] for key in MEASURES}
    compared = [{"row": "long", "control": "long-as-is", "weight": 0.5, **gain}] if "long" in names else []
    return {"rows": rows, "contrasts": compared}


def test_together_is_of_the_pairs_that_have_a_row() -> None:
    results = {"one": summary(200), "two": summary(300), "three": summary(0, ("linear",))}
    encoders = {"one": ("s1", "m1"), "two": ("s2", "m2"), "three": ("s3", "m3")}
    found = together(results, encoders)
    rows = {row["name"]: row for row in found["rows"]}
    assert rows["linear"]["pairs"] == ["one", "two", "three"]
    assert rows["long"]["pairs"] == ["one", "two"]
    assert rows["long"]["best"]["transferred"][0] == 650
    assert rows["long"]["best"]["transferred_minus_linear"][0] == 640
    (gain,) = found["contrasts"]
    assert gain["transfer"][0] == 250
    assert gain["transfer"][1] < 200 < 300 < gain["transfer"][2]
    text = worth(results, found, encoders)
    assert "| one | s1 and m1 | – | – | +200 [+193, +207] | – |" in text
    assert "| mean | – | – | – | +250 " in text
    assert "three" not in text


@pytest.mark.parametrize(("share", "low", "high"), [(1.0, 0.98, 1.0), (0.0, -0.2, 0.1), (0.7, 0.5, 0.9)])
def test_features_are_shared_as_far_as_a_linear_map_tells_them_on_audio_not_fitted_on(share, low, high) -> None:
    torch.manual_seed(0)
    x, noise = torch.randn(30, 40, 6), torch.randn(30, 40, 4)
    y = share * x @ torch.randn(6, 4) + (1 - share) * 3 * noise
    left, whole = torch.tensor(agreement.squares(x[:20], y[:20], x[20:], y[20:])).sum(1)
    assert low < 1 - left / whole <= high


def test_a_parent_tells_all_of_itself_and_a_stranger_less(monkeypatch) -> None:
    a, b = (spread(HubertModel(HUBERT), seed).eval() for seed in (0, 1))
    sound = torch.Generator().manual_seed(0)
    heard = {split: [{"input_values": torch.randn(2, 8000, generator=sound)}] for split in agreement.SECONDS}
    monkeypatch.setattr(Calibration, "batches", lambda self: iter(heard[self.split]))
    found = np.array(agreement.Parents(Encoders(a, b, Calibration("speech"))).squares(a))
    shares = 1 - found[:, :, 0].sum(-1) / found[:, :, 1].sum(-1)
    assert len(shares) == HUBERT.num_hidden_layers + 1
    assert (shares[:, 0] > 0.95).all()
    assert (shares[:, 1] < 0.9).all()


def task(name: str, domain: str) -> Task:
    """Two classes, 20 test groups of two."""
    labels = np.arange(80) % 2
    groups = np.repeat(np.arange(40), 2)
    return Task(name, name.upper(), domain, "c", np.zeros((80, 3), np.int64), labels, groups, groups < 20)


@pytest.fixture
def pair(tmp_path) -> one_domain.OneDomain:
    """Two encoders of speech: both do `t`, one does `u`; `m` is of music. A merge has 30 of 40 where they have 40."""
    (tmp_path / "about.json").write_text(json.dumps({"domain": "speech", "a": "x/s1/encoder", "b": "x/s2/encoder"}))
    right = {"A": {"t": 40, "u": 40, "m": 40}, "B": {"t": 40, "u": 20, "m": 40}, "AB": {"t": 40, "u": 40, "m": 40}}
    both = {"A": (1.0, 0.5), "B": (0.5, 1.0), "linear": (0.25, 0.25), "proposed": (0.5, 0.5)}
    for name, count in {**right, "linear": {"t": 30}, "proposed": {"t": 36}}.items():
        cell = {"right": {key: [[2] * (n // 2) + [0] * (20 - n // 2)] * 2 for key, n in count.items()}}
        if name in both:
            cell["squares"] = [[[[4 * (1 - share)] * 6, [4.0] * 6] for share in both[name]]] * 3
        merge = name in ("linear", "proposed")
        cell |= {"row": name, "weight": 0.5, "seed": 0} if merge else {}
        (tmp_path / f"{name}{'@0.5#0' * merge}.json").write_text(json.dumps(cell))
    return one_domain.OneDomain(tmp_path, (task("t", "speech"), task("u", "speech"), task("m", "music")))


def test_one_domain_counts_what_both_do_and_the_barrier_is_what_the_merge_lacks(pair) -> None:
    assert pair.asked == ["t"]
    found = pair.result()
    assert [(one["name"], one["counts"]) for one in found["tasks"]] == [("t", True), ("u", False)]
    linear, proposed = found["rows"]
    assert linear["probes"][0] == 750
    assert linear["features"] == [250, 250, 250]
    assert linear["barrier"]["features"] == [500, 500, 500]
    assert linear["layers"] == {"A": [0.25] * 3, "B": [0.25] * 3}
    assert proposed["barrier"]["probes"][0] == 100
    (gain,) = found["contrasts"]
    assert gain["features"] == [250, 250, 250]
    assert "features" not in found["AB"]
    text = one_domain_section({"speech-1-2": found})
    assert (
        "A is s1, B is s2. **The barrier of 1000 is in features 500 (linear interpolation), 250 (permutations); "
        in text
    )
    assert "Tasks that count: T. Not: U." in text
    assert "| 250 [250, 250] | +500 [+500, +500] | 0.250 | 0.250 |" in text


def test_it_is_said_where_one_encoder_taught_the_other() -> None:
    assert "speech-3 was trained to predict clusters of the hidden states of a training of speech-1" in (
        taught(("speech-1", "speech-3"))
    )
    assert not taught(("speech-3", "speech-5"))
    assert not taught(("music-4", "music-6"))


def test_a_pair_is_opened_by_its_domain(pair, monkeypatch) -> None:
    monkeypatch.setattr("benchmarks.speech_music.scoring.tasks", lambda: pair.tasks)
    assert isinstance(run.opened(pair.folder), one_domain.OneDomain)
    (pair.folder / "about.json").write_text("{}")
    assert not isinstance(run.opened(pair.folder), one_domain.OneDomain)


def test_what_is_learned_on_follows_the_domain_of_the_pair() -> None:
    pair = Encoders(torch.nn.Identity(), torch.nn.Identity(), Calibration("music", 60, "full"))
    assert pair.like(Calibration("both", 1200)) == Calibration("music", 1200, "full")


def test_a_summary_keeps_pairs_of_other_machines_and_takes_the_mean_over_them_anew(pair, tmp_path, monkeypatch) -> None:
    about = [{"about": {side: f"data/runs/{side}{k}/encoder" for side in "ab"}} for k in range(2)]
    before = {"pairs": {f"{k}": summary(200 + 100 * k) | one for k, one in enumerate(about)}}
    files = {name: tmp_path / f"{name}.json" for name in ("RESULT", "ONE_DOMAIN")}
    files["RESULT"].write_text(json.dumps(before))
    for name, path in files.items():
        monkeypatch.setattr(summing, name, path)
    monkeypatch.setattr(summing, "experiment_folder", lambda name: pair.folder if name == "alike" else tmp_path / "no")
    monkeypatch.setattr("benchmarks.speech_music.scoring.tasks", lambda: pair.tasks)
    monkeypatch.setattr("benchmarks.speech_music.trained.DATA", tmp_path)
    for run_name, made in (("done", "encoder"), ("half", "")):
        (tmp_path / "runs" / run_name / made).mkdir(parents=True)
        (tmp_path / "runs" / run_name / "log.jsonl").write_text('{"step": 200}\n')
    monkeypatch.setattr("sys.argv", ["summary", "alike"])
    summing.main()
    found = {name: json.loads(path.read_text()) for name, path in files.items()}
    assert found["RESULT"]["pairs"] == before["pairs"]
    assert found["RESULT"]["together"]["contrasts"][0]["transfer"][0] == 250
    assert [row["name"] for row in found["ONE_DOMAIN"]["alike"]["rows"]] == ["linear", "proposed"]
    assert found["RESULT"]["training"] == {"done": [{"step": 200}]}
