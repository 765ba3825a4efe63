import json
import os
import re
import shutil
import subprocess
import sys
from hashlib import sha256

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoFeatureExtractor, AutoModel, BertConfig, BertModel, HubertConfig, HubertModel
from typer.testing import CliRunner

import permgraph
from permgraph.cli import merging
from permgraph.cli.app import app
from permgraph.merging import CORRECTIONS, LAYER_METHODS, METHODS

RATE = 16_000
TINY = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "conv_dim": [16] * 7,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
}  # fmt: skip
PROCESSOR = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "sampling_rate": RATE, "do_normalize": True}
NORM = "encoder.layer_norm.weight"


def run(*words, code=0):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result


def hubert(folder, seed=0, processor=None, **changes):
    torch.manual_seed(seed)
    HubertModel(HubertConfig(**TINY | changes)).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR | (processor or {})))
    return folder


def clips(folder, seconds=5.0, count=2, gain=0.1):
    folder.mkdir()
    noise = np.random.default_rng(0)
    for number in range(count):
        sound = gain * noise.standard_normal(int(seconds * RATE))
        soundfile.write(folder / f"{number}.wav", sound, RATE, subtype="FLOAT")
    return folder


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Two tiny checkpoints, calibration clips, and what is never written to."""
    folder = tmp_path_factory.mktemp("given")
    hubert(folder / "a", 0)
    hubert(folder / "b", 1)
    clips(folder / "clips")
    return folder


@pytest.fixture
def copies(given, tmp_path):
    """The same, to be damaged."""
    shutil.copytree(given, tmp_path / "in")
    return tmp_path / "in"


def only_json(result):
    """stdout is one JSON object and nothing else."""
    value = json.loads(result.stdout)
    assert isinstance(value, dict)
    return value


# Commands, one after the other.


def test_inspect_prints_the_groups(given):
    result = run("inspect", given / "a")
    assert "outputs free" in result.stdout
    assert "Sym(64)" in result.stdout
    assert not result.stderr


@pytest.mark.parametrize("words", [("--json",), ("--json", "-"), ("--json", "--quiet")])
def test_inspect_prints_the_specification_alone(given, words):
    result = run("inspect", given / "a", *words)
    only_json(result)
    spec = permgraph.PermutationSpec.from_json(result.stdout)
    assert spec.outputs == "free"
    assert ("groups" in result.stderr) is ("--quiet" not in words)


def test_options_may_stand_before_the_command(given):
    assert run("--json", "--quiet", "inspect", given / "a").stdout == run("inspect", given / "a", "--json").stdout


def test_inspect_writes_files(given, tmp_path):
    names = {"--json": "spec.json", "--html": "page.html", "--dot": "ties.dot"}
    words = [word for option, name in names.items() for word in (option, tmp_path / name)]
    assert "Sym(64)" in run("inspect", given / "a", "--outputs", "fixed", *words).stdout
    assert permgraph.PermutationSpec.from_json((tmp_path / "spec.json").read_text()).outputs == "fixed"
    assert "<table>" in (tmp_path / "page.html").read_text()
    dot = (tmp_path / "ties.dot").read_text()
    assert dot.startswith("graph permgraph {")
    assert re.search(r'^  \d+ -- \d+ \[label="aten\.\w+"', dot, re.MULTILINE)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names.values())
    before = (tmp_path / "page.html").read_bytes()
    refused = run("inspect", given / "b", "--html", tmp_path / "page.html", code=1)
    assert "is there already" in refused.stderr
    assert (tmp_path / "page.html").read_bytes() == before
    run("inspect", given / "b", "--html", tmp_path / "page.html", "--force")
    assert (tmp_path / "page.html").read_bytes() != before
    assert "does not exist" in run("inspect", given / "b", "--dot", tmp_path / "no" / "x.dot", code=1).stderr
    assert "is a folder" in run("inspect", given / "b", "--dot", tmp_path, code=1).stderr


def test_inspect_needs_no_weights(copies):
    (copies / "a" / "model.safetensors").unlink()
    run("inspect", copies / "a")


def test_explain(given):
    text = run("explain", given / "a", f"{NORM}:0").stdout
    assert text.startswith(f"{NORM}[0], 32 units")
    pair = only_json(run("explain", given / "a", f"{NORM}:0", "encoder.layers.1.final_layer_norm.bias:0", "--json"))
    assert pair["verdict"] == "together"
    assert pair["chain"]
    fixed = only_json(run("explain", given / "a", f"{NORM}:0", "--outputs", "fixed", "--json"))
    assert fixed["verdict"] == "pinned"
    assert "near: " in run("explain", given / "a", "encoder.layer_norm.wait:0", code=1).stderr


def test_verify(given):
    assert "the function is unchanged" in run("verify", given / "b", "--trials", 1).stdout
    found = only_json(run("verify", given / "b", "--trials", 2, "--seed", 5, "--json"))
    assert found["ok"]
    assert (found["trials"], found["seed"]) == (2, 5)
    assert found["max_error"] < found["tolerance"]


def test_adapters():
    text = run("adapters").stdout
    assert "hubert, mert_model" in text
    assert f"permgraph {permgraph.__version__}" in text
    found = only_json(run("adapters", "--json"))["adapters"]
    assert {"name", "distribution", "model_types", "outputs", "problem"} == set(found[0])
    assert {item["name"] for item in found} >= {
        "bert", "data2vec-audio", "hubert", "llama", "vit", "wav2vec2", "wavlm", "whisper",
    }  # fmt: skip


def test_version_and_help():
    assert run("--version").stdout.strip() == permgraph.__version__
    text = run("--help").stdout
    for name in ("inspect", "explain", "verify", "align", "merge", "adapters", "demo"):
        assert name in text
        assert "--json" in run(name, "--help").stdout


def test_help_imports_neither_torch_nor_transformers():
    code = (
        "import sys\nfrom permgraph.cli import main\ntry:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('torch', 'transformers', 'numpy', 'networkx') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_merge_writes_a_checkpoint_that_transformers_loads(given, tmp_path):
    out = tmp_path / "out"
    result = run("merge", given / "a", given / "b", "--data", given / "clips", "--weight", 0.9, "--out", out)
    assert "certificate: the function is unchanged" in result.stdout
    assert "encoder.layers.0–1.feed_forward.hidden" in result.stdout
    assert f"written to {out}" in result.stdout
    assert not result.stderr
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md", "config.json", "model.safetensors", "permgraph.json", "preprocessor_config.json", "recipe.toml",
        "report.html",
    ]  # fmt: skip
    report = json.loads((out / "permgraph.json").read_text())
    model = AutoModel.from_pretrained(out)
    assert type(model) is HubertModel
    assert AutoFeatureExtractor.from_pretrained(out).sampling_rate == RATE
    check_report(report, given)
    check_weights(report, given, model.state_dict())


def check_report(report, given):
    assert report["permgraph"] == permgraph.__version__
    assert report["versions"]["torch"]
    assert report["merge"] == {"method": "linear", "weight": 0.9}
    assert (report["method"], report["seed"]) == ("correlation", 0)
    assert report["certificate"]["ok"]
    assert report["command"] == "permgraph merge a b --data clips --weight 0.9 --out out"
    for model, name in zip(report["inputs"]["models"], "ab", strict=True):
        for file, found in model["sha256"].items():
            assert found == sha256((given / name / file).read_bytes()).hexdigest()
        assert set(model["sha256"]) == {"config.json", "model.safetensors"}
    assert set(report["inputs"]["data"]["sha256"]) == {"0.wav", "1.wav"}
    assert set(report["permutations"]) == set(report["gains"]) == set(report["groups"])
    assert len(report["groups"]) == report["spec"]["groups"]
    assert all(gain["solution"] >= gain["identity"] for gain in report["gains"].values())


def check_weights(report, given, merged):
    a, b = (load_file(given / name / "model.safetensors") for name in "ab")
    order = report["permutations"]["encoder.layers.0.feed_forward.hidden"]
    assert order != sorted(order)
    name = "encoder.layers.0.feed_forward.intermediate_dense.bias"
    assert torch.allclose(merged[name], 0.9 * a[name] + 0.1 * b[name][order], atol=1e-7)
    spec = permgraph.PermutationSpec.from_json(run("inspect", given / "a", "--json", "-q").stdout)
    assert {group.name for group in spec.groups} == set(report["groups"])


def test_merge_by_weights_of_some_groups_as_slerp(given, tmp_path):
    words = ("--groups", "conv, attention", "--merge", "slerp", "--seed", 3, "--json", "--out", tmp_path / "out")
    result = run("merge", given / "a", given / "b", *words)
    found = only_json(result)
    assert found["out"] == str(tmp_path / "out")
    assert found["merge"] == {"method": "slerp", "weight": 0.5}
    assert (found["method"], found["seed"]) == ("weights", 3)
    assert "permutations" not in found
    assert "certificate: " in result.stderr
    report = json.loads((tmp_path / "out" / "permgraph.json").read_text())
    moved = {n for n, p in report["permutations"].items() if not np.array_equal(np.sort(p), p)}
    assert moved
    assert moved <= set(report["groups"])
    assert {name for name in report["groups"] if "feed_forward" in name or "residual" in name} == set()
    silent = run("--quiet", "merge", given / "a", given / "b", *words, "--force")
    assert only_json(silent)["spec"] == found["spec"]
    assert not silent.stderr


def test_align_writes_b_with_the_function_of_b(given, tmp_path):
    hubert(tmp_path / "b", 1, {"do_normalize": False})
    out = tmp_path / "out"
    result = run("align", given / "a", tmp_path / "b", "--data", given / "clips", "--limit", 1, "--out", out)
    assert result.stderr.startswith("warning: do_normalize is True in ")
    assert len(result.stderr.splitlines()) == 1
    before, after = (AutoModel.from_pretrained(folder).eval() for folder in (tmp_path / "b", out))
    waves = torch.randn(1, RATE)
    with torch.no_grad():
        x, y = (model(waves).last_hidden_state for model in (before, after))
    assert not torch.allclose(x, y, atol=1e-3)
    assert torch.allclose(x.sort(-1).values, y.sort(-1).values, atol=1e-4)
    assert not AutoFeatureExtractor.from_pretrained(out).do_normalize
    report = json.loads((out / "permgraph.json").read_text())
    assert report["merge"] is None


def test_merge_of_three_models(given, tmp_path):
    hubert(tmp_path / "c", 2)
    words = ("merge", given / "a", given / "b", tmp_path / "c", "--data", given / "clips", "--weight", 0.5)
    out = tmp_path / "out"
    assert "certificate, the worst of 3: the function is unchanged" in run(*words, "--out", out).stdout
    report = json.loads((out / "permgraph.json").read_text())
    assert report["merge"] == {"method": "linear", "weights": [0.5, 0.25, 0.25]}
    assert report["certificate"]["ok"]
    assert [model["model"] for model in report["inputs"]["models"]] == ["a", "b", "c"]
    assert "<th>B: b</th><th>C: c</th>" in (out / "report.html").read_text()
    name, group = (f"encoder.layers.0.feed_forward.{end}" for end in ("intermediate_dense.bias", "hidden"))
    a, b, c = (load_file(folder / "model.safetensors")[name] for folder in (given / "a", given / "b", tmp_path / "c"))
    orders = [element[group] for element in report["permutations"]]
    assert orders[0] == sorted(orders[0]) != orders[1]
    expected = 0.5 * a + 0.25 * b[orders[1]] + 0.25 * c[orders[2]]
    assert torch.allclose(AutoModel.from_pretrained(out).state_dict()[name], expected, atol=1e-6)
    (tmp_path / "c" / "config.json").unlink()
    require_error(run(*words, "--out", tmp_path / "no", code=1), "has no config.json")
    assert not (tmp_path / "no").exists()


def test_merge_of_models_made_by_python(tmp_path, monkeypatch):
    source = (
        "import torch\nfrom torch import nn\n"
        "def make(seed):\n    torch.manual_seed(seed)\n"
        "    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval(), (torch.ones(2, 4),), {}\n"
        "def a():\n    return make(0)\ndef b():\n    return make(1)\n"
    )
    (tmp_path / "cli_test_models.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    found = only_json(run("merge", "python:cli_test_models:a", "python:cli_test_models:b", "--out", "out", "--json"))
    assert found["inputs"]["models"][0] == {"model": "python:cli_test_models:a", "sha256": {}}
    names = ["README.md", "model.safetensors", "permgraph.json", "recipe.toml", "report.html"]
    assert sorted(os.listdir("out")) == names


def test_the_choices_of_merge_are_those_of_the_engine():
    told = run("merge", "--help").stdout
    assert all(name in told for name in (*METHODS, *LAYER_METHODS, *CORRECTIONS))
    from permgraph.matching.alignment import METHODS as MATCHING

    assert {choice.value for choice in merging.Method} == set(MATCHING)


# Usage errors: exit status 2, on stderr, before any work.

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
    "unknown merge": (("merge", "x", "y", "--out", "z", "--merge", "mean"), "mean"),
    "unknown method": (("align", "x", "y", "--out", "z", "--method", "guess"), "guess"),
    "correlation without data": (("align", "x", "y", "--out", "z", "--method", "correlation"), "--data"),
    "mix and method": (("align", "x", "y", "--out", "z", "--method", "weights", "--mix", "0.5"), "not both"),
    "mix too large": (("merge", "x", "y", "--out", "z", "--mix", "1.5"), "--mix is a share"),
    "mix without data": (("merge", "x", "y", "--out", "z", "--mix", "0.5"), "--data"),
    "mix of three": (("merge", "x", "y", "w", "--out", "z", "--mix", "0"), "two models"),
    "no role": (("align", "x", "y", "--out", "z", "--groups", ","), "--groups"),
    "no dimension": (("explain", "x", "weight"), "PARAM:DIM"),
    "unknown outputs": (("inspect", "x", "--outputs", "open"), "open"),
    "no trials": (("verify", "x", "--trials", "0"), "--trials"),
}


@pytest.mark.parametrize("name", USAGE)
def test_usage_errors(name):
    words, expected = USAGE[name]
    result = run(*words, code=2)
    assert expected in result.stderr + result.stdout
    assert "Traceback" not in result.output


# Bad input: exit status 1, one message, nothing written.


def cut(path):
    path.write_bytes(path.read_bytes()[:-1000])


def damage_truncated(folder):
    cut(folder / "b" / "model.safetensors")


def damage_unreadable(folder):
    (folder / "a" / "model.safetensors").write_bytes(b"no tensors here, only words")


def damage_not_finite(folder):
    path = folder / "b" / "model.safetensors"
    state = load_file(path)
    state["encoder.layers.1.attention.k_proj.bias"][3] = float("nan")
    save_file(state, path, metadata={"format": "pt"})


class Code:
    """Unpickling this would create a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def damage_pickle(folder):
    (folder / "b" / "model.safetensors").unlink()
    torch.save({"weight": Code(folder / "it ran")}, folder / "b" / "pytorch_model.bin")


def damage_no_data(folder):
    shutil.rmtree(folder / "clips")


def damage_empty_data(folder):
    shutil.rmtree(folder / "clips")
    (folder / "clips").mkdir()


def damage_silent(folder):
    shutil.rmtree(folder / "clips")
    clips(folder / "clips", gain=0)


def damage_short(folder):
    shutil.rmtree(folder / "clips")
    clips(folder / "clips", seconds=1)


def damage_few_frames(folder):
    shutil.rmtree(folder / "clips")
    clips(folder / "clips", count=1)
    for name in "ab":
        shutil.rmtree(folder / name)
        hubert(folder / name, intermediate_size=1024, conv_stride=[5, 4, 4, 4, 4, 2, 2])


def damage_not_audio(folder):
    (folder / "clips" / "0.wav").write_text("la la la")


def damage_other_sizes(folder):
    shutil.rmtree(folder / "b")
    hubert(folder / "b", intermediate_size=48)


def damage_other_family(folder):
    shutil.rmtree(folder / "b")
    sizes = {name: TINY[name] for name in ("hidden_size", "num_hidden_layers", "num_attention_heads")}
    BertModel(BertConfig(**sizes, intermediate_size=64, vocab_size=50)).save_pretrained(folder / "b")


def damage_no_config(folder):
    (folder / "a" / "config.json").unlink()


def damage_config(folder):
    (folder / "a" / "config.json").write_text("{")


BAD = {
    "truncated": (damage_truncated, r"b.model\.safetensors .* cannot be read: .* truncated or damaged"),
    "unreadable": (damage_unreadable, r"a.model\.safetensors .* cannot be read"),
    "not finite": (damage_not_finite, r"NaN or infinite: encoder\.layers\.1\.attention\.k_proj\.bias"),
    "pickle with code": (damage_pickle, r"pytorch_model\.bin.* asks to run code"),
    "no data": (damage_no_data, r"clips: no such folder"),
    "empty data": (damage_empty_data, r"clips: no audio files"),
    "silent data": (damage_silent, r"clips: all recordings are silent"),
    "short data": (damage_short, r"2 clips hold 2\.00 s of audio, less than one window"),
    "few frames": (damage_few_frames, r"15 frames of calibration data for 1024 channels, at least \d+"),
    "not audio": (damage_not_audio, r"0\.wav: cannot be read as audio"),
    "other sizes": (
        damage_other_sizes,
        r"not of one architecture: intermediate_size is 64 in .* A and 48 in that of B",
    ),
    "other family": (damage_other_family, r"not of one architecture: .*a has a HubertConfig and .*b a BertConfig"),
    "no config": (damage_no_config, r"a: has no config\.json"),
    "broken config": (damage_config, r"config\.json .* cannot be read"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("command", ["align", "merge"])
def test_bad_input_is_refused_and_nothing_is_written(copies, tmp_path, command, name):
    damage, expected = BAD[name]
    damage(copies)
    before = sorted(copies.rglob("*"))
    out = tmp_path / "deeper" / "out"
    result = run(command, copies / "a", copies / "b", "--data", copies / "clips", "--out", out, code=1)
    require_error(result, expected)
    assert not (tmp_path / "deeper").exists()
    assert sorted(copies.rglob("*")) == before


def require_error(result, expected):
    assert not result.stdout
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1
    assert re.search(expected, result.stderr), result.stderr


def test_unknown_role(given, tmp_path):
    words = ("--data", given / "clips", "--groups", "conv,experts", "--out", tmp_path / "out")
    result = run("merge", given / "a", given / "b", *words, code=1)
    require_error(result, r"no group has the name or role experts; the roles are .*feed_forward")
    assert not (tmp_path / "out").exists()


def test_merge_by_least_squares_and_repair_with_shares_by_role(given, tmp_path):
    words = ("--data", given / "clips", "--merge", "pleas+repair", "--weight", "feed_forward=0.25,default=0.75")
    out = tmp_path / "out"
    result = run("merge", given / "a", given / "b", *words, "--json", "--out", out)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["merge"]
    assert found == {"method": "pleas+repair", "weight": {"feed_forward": 0.25, "default": 0.75}}
    assert "share by feed_forward 0.25, default 0.75" in (out / "README.md").read_text()
    AutoModel.from_pretrained(out)


def test_merge_with_shares_from_correlation_is_told(given, tmp_path):
    words = ("--data", given / "clips", "--weight", "correlation", "--out", tmp_path / "out")
    result = run("merge", given / "a", given / "b", *words)
    assert result.exit_code == 0, result.output
    assert "share by correlation" in result.stdout


def test_slerp_knows_two_models_only(given, tmp_path):
    words = ("--merge", "slerp", "--out", tmp_path / "out")
    assert "merges two models" in run("merge", given / "a", given / "b", given / "a", *words, code=2).stderr


def test_an_output_folder_with_files_in_it_is_left_alone(given, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    for words, expected in (((), "is not empty"), (("--force",), "no checkpoint")):
        result = run("merge", given / "a", given / "b", "--out", out, *words, code=1)
        require_error(result, expected)
        assert [path.name for path in out.iterdir()] == ["thesis.txt"]


def test_force_replaces_a_checkpoint(given, tmp_path):
    out = tmp_path / "out"
    run("align", given / "a", given / "b", "--groups", "conv", "--out", out)
    (out / "stale").touch()
    require_error(run("align", given / "b", given / "a", "--groups", "conv", "--out", out, code=1), "is not empty")
    assert (out / "stale").exists()
    run("align", given / "b", given / "a", "--groups", "conv", "--out", out, "--force")
    assert not (out / "stale").exists()


def test_no_such_model(tmp_path):
    require_error(run("inspect", tmp_path / "nowhere", code=1), "no such folder")
    require_error(run("verify", "python:no.such.module:f", code=1), "No module named")


def interrupted(*_, **__):
    raise KeyboardInterrupt


def broken(*_, **__):
    raise RuntimeError("the\nsky fell")


def test_an_interrupt_leaves_nothing_behind(given, tmp_path, monkeypatch):
    monkeypatch.setattr("permgraph.checkpoints.writing.write_weights", interrupted)
    result = run("merge", given / "a", given / "b", "--groups", "conv", "--out", tmp_path / "out", code=130)
    assert result.stderr == "interrupted\n"
    assert list(tmp_path.iterdir()) == []


def test_an_unexpected_error_asks_for_a_report(given, tmp_path, monkeypatch):
    monkeypatch.setattr("permgraph.checkpoints.writing.write_weights", broken)
    words = ("merge", given / "a", given / "b", "--groups", "conv", "--out", tmp_path / "out")
    result = run(*words, code=1)
    assert result.stderr.startswith("error: unexpected RuntimeError: the\nThis is a bug in permgraph: please report it")
    assert "--debug" in result.stderr
    assert "Traceback" not in result.stderr
    assert "Traceback" in run("--debug", *words, code=1).stderr
    assert list(tmp_path.iterdir()) == []


def test_the_installed_program(given):
    code = "from permgraph.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "explain", str(given / "a"), "no:0"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: the model has no parameter 'no'")
    assert "Traceback" not in done.stderr
