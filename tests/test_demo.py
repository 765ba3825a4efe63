import json
import shutil

import numpy as np
import pytest
import soundfile
import torch
from transformers import AutoModel, HubertConfig, HubertModel
from typer.testing import CliRunner

from permgraph.cli.app import app
from permgraph.demo import demo, merges
from permgraph.demo.demo import sentences
from permgraph.demo.merges import Row
from permgraph.demo.probes import Example, Probe

TINY = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
}  # fmt: skip
EXAMPLES = tuple(Example("x.ogg", n, n + 1, "ab"[n % 3 == 0], test=n >= 200) for n in range(400))
PROBES = tuple(
    Probe(name, f"some {name}s", domain, "accuracy", "file", EXAMPLES)
    for name, domain in (("phone", "speech"), ("pitch", "music"))
)


def row(kind, weight, *scores, steps=0):
    title = kind if weight is None else f"{kind} at {weight}" + ", healed" * (steps > 0)
    return Row(kind, title, weight, dict(zip(("phone", "pitch"), scores, strict=True)), steps)


def run(*words, code=0):
    result = CliRunner().invoke(app, ["demo", *(str(word) for word in words)])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Tiny untrained encoders in the place of the demo's, and scores without probes."""
    assets = tmp_path / "assets"
    for seed, name in enumerate(("speech", "music")):
        torch.manual_seed(seed)
        HubertModel(HubertConfig(**TINY)).save_pretrained(assets / name)
    (assets / "clips" / "calibration").mkdir(parents=True)
    noise = 0.1 * np.random.default_rng(0).standard_normal(5 * 16_000)
    soundfile.write(assets / "clips" / "calibration" / "noise.wav", noise, 16_000)
    monkeypatch.setattr(demo, "ASSETS", assets)
    monkeypatch.setattr(demo, "load_probes", lambda: PROBES)
    monkeypatch.setattr(merges, "scores", fake_scores)
    monkeypatch.setattr(merges, "STEPS", 2)


def fake_scores(model, probes):
    """Something in [0, 1] that depends on the weights."""
    total = float(sum(parameter.abs().sum() for parameter in model.parameters()))
    return {probe.name: total % 1 for probe in probes}


def test_without_its_models_the_demo_says_where_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "ASSETS", tmp_path / "assets")
    assert "not part of an installed package. Run it from a checkout" in run(code=1).stderr


def test_the_sentences_say_what_came_out():
    rows = [row("A", None, 0.9, 0.9), row("plain", 0.5, 0.4, 0.4), row("aligned", 0.5, 0.6, 0.41)]
    rows += [row("plain", 0.5, 0.6, 0.5, steps=2), row("aligned", 0.5, 0.8, 0.5, steps=2)]
    rows += [row("plain", 0.9, 0.6, 0.5), row("aligned", 0.9, 0.4, 0.3)]
    assert sentences(rows, PROBES) == [
        "aligned at 0.5, against the plain at 0.5: better on some phones (+20.0 points); "
        "not distinguishable on some pitchs (+1.0 points).",
        "aligned at 0.5, healed, against the plain at 0.5, healed: better on some phones (+20.0 points); "
        "not distinguishable on some pitchs (+0.0 points).",
        "aligned at 0.9, against the plain at 0.9: worse on some phones (-20.0 points), some pitchs (-20.0 points).",
        "aligned at 0.5, healed, against A: worse on some phones (-10.0 points), some pitchs (-40.0 points).",
    ]


def test_the_demo_writes_a_checkpoint_figures_and_a_picture(small, tmp_path):
    out = tmp_path / "out"
    result = run("--out", out)
    for expected in (
        "17 groups",
        "move together by",
        "certificate",
        "plain average at 0.5 A",
        "aligned at 0.5 A, healed",
        "aligned at 0.9 A",
        "chance",
    ):
        assert expected in result.stdout
    assert not result.stderr
    assert sorted(path.name for path in out.iterdir()) == ["demo.png", "merged", "permgraph.json"]
    assert type(AutoModel.from_pretrained(out / "merged")) is HubertModel
    assert (out / "demo.png").read_bytes().startswith(b"\x89PNG")
    check_figures(json.loads((out / "permgraph.json").read_text()))
    assert "is not empty" in run("--out", out, code=1).stderr
    (out / "mine").touch()
    assert "did not write there (mine)" in run("--out", out, "--force", code=1).stderr
    (out / "mine").unlink()
    shutil.rmtree(out / "merged")
    run("--out", out, "--force")
    assert (out / "merged" / "model.safetensors").exists()


def check_figures(figures):
    models = [(model["kind"], model["weight"], model["steps"]) for model in figures["models"]]
    treated = [(0.5, 0), (0.5, 2), (0.9, 0)]
    assert models == [
        ("A", None, 0),
        ("B", None, 0),
        *((kind, *how) for how in treated for kind in ("plain", "aligned")),
    ]
    by_title = {model["title"]: model["scores"]["phone"] for model in figures["models"]}
    assert len(set(by_title.values())) == len(by_title)
    assert figures["probes"]["phone"]["tested"] == 200
    assert len(figures["verdict"]) == 5


def test_without_a_folder_nothing_is_written(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    result = run("--json")
    found = json.loads(result.stdout)
    assert found["out"] is None
    assert "nothing was written" in result.stderr
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
def test_the_shipped_encoders(tmp_path):
    result = run("--out", tmp_path / "out", "--json")
    found = json.loads(result.stdout)
    scores = {(model["kind"], model["weight"], model["steps"]): model["scores"] for model in found["models"]}
    healed = {kind: scores[kind, merges.HEALED, merges.STEPS] for kind in ("plain", "aligned")}
    chance = {name: probe["chance"] for name, probe in found["probes"].items()}
    assert scores["A", None, 0]["phone"] > scores["B", None, 0]["phone"]
    assert scores["B", None, 0]["pitch"] > scores["A", None, 0]["pitch"]
    assert all(max(scores[kind, None, 0][name] for kind in "AB") > 2 * guess for name, guess in chance.items())
    assert healed["aligned"]["phone"] > healed["plain"]["phone"]
    assert "the function is unchanged" in found["certificate"]
    assert all(solution > identity for identity, solution in found["gains"].values())
    assert type(AutoModel.from_pretrained(tmp_path / "out" / "merged")) is HubertModel
