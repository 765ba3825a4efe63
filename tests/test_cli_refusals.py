"""What the jobs of the command line refuse, interrupted work, and bugs: one message, nothing left behind."""

import contextlib
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from commands import TINY, clips, hubert, only_json, require_error, run
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel

from permgraph.cli import stopping

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
    "pickle with code": (damage_pickle, r"pytorch_model\.bin.* code in it is never run"),
    "no data": (damage_no_data, r"clips: no such folder"),
    "empty data": (damage_empty_data, r"clips: no audio files"),
    "silent data": (damage_silent, r"clips: all recordings are silent"),
    "short data": (damage_short, r"2 clips hold 2\.00 s of audio, less than one window"),
    "few frames": (damage_few_frames, r"15 frames of calibration data for 1024 channels, at least \d+"),
    "not audio": (damage_not_audio, r"0\.wav: cannot be read as audio"),
    "other sizes": (
        damage_other_sizes,
        r"intermediate_size is 64 in .* A and 48 in that of B.*or enlarge B to A \(--enlarge\)",
    ),
    "other family": (damage_other_family, r"not of one architecture: .*a has a HubertConfig and .*b has a BertConfig"),
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


def test_unknown_role(given, tmp_path):
    words = ("--data", given / "clips", "--groups", "conv,experts", "--out", tmp_path / "out")
    result = run("merge", given / "a", given / "b", *words, code=1)
    require_error(result, r"no group has the name or role experts; the roles are .*feed_forward")
    assert not (tmp_path / "out").exists()


def test_slerp_knows_two_models_only(given, tmp_path):
    words = ("--merge", "slerp", "--out", tmp_path / "out")
    assert "merges two models" in run("merge", given / "a", given / "b", given / "a", *words, code=2).stderr


def test_an_output_folder_with_files_in_it_is_left_alone(given, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    for words, expected in (((), "is not empty"), (("--force",), "permgraph did not write it")):
        result = run("merge", given / "a", given / "b", "--out", out, *words, code=1)
        require_error(result, expected)
        assert [path.name for path in out.iterdir()] == ["thesis.txt"]


def test_a_place_that_cannot_be_written_is_refused_before_the_work(given, tmp_path, monkeypatch):
    monkeypatch.setattr("permgraph.jobs.loading.load", broken)
    (tmp_path / "file").touch()
    result = run("merge", given / "a", given / "b", "--out", tmp_path / "file" / "out", code=1)
    require_error(result, r"file.out: nothing can be written in .*file: Not a directory\. Choose a place")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


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


@pytest.mark.parametrize(("name", "said"), [("SIGINT", "interrupted\n"), ("SIGTERM", "")])
def test_a_library_that_swallows_a_signal_is_not_taken_for_a_bug(given, tmp_path, monkeypatch, name, said):
    def swallowed(*_, **__):
        with contextlib.suppress(BaseException):
            signal.raise_signal(getattr(signal, name))
        raise RuntimeError("half imported")

    monkeypatch.setattr("permgraph.checkpoints.writing.write_weights", swallowed)
    for state in ("_received", "_told"):
        monkeypatch.setattr(stopping, state, [])
    before = {each: signal.getsignal(getattr(signal, each)) for each in stopping.SIGNALS}
    try:
        stopping.listen()
        words = ("merge", given / "a", given / "b", "--groups", "conv", "--out", tmp_path / "out")
        result = run(*words, code=128 + getattr(signal, name))
    finally:
        for each, handler in before.items():
            signal.signal(getattr(signal, each), handler)
    assert result.stderr == said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("closed", [1, 2])
def test_a_stream_that_is_closed_is_written_to_in_vain(closed):
    call = [sys.executable, "-m", "permgraph", "adapters"]
    code = f"import os; os.close({closed}); os.execv({call[0]!r}, {call})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert bool(done.stdout) == (closed == 2)


def test_an_unexpected_error_asks_for_a_report(given, tmp_path, monkeypatch):
    monkeypatch.setattr("permgraph.checkpoints.writing.write_weights", broken)
    words = ("merge", given / "a", given / "b", "--groups", "conv", "--out", tmp_path / "out")
    result = run(*words, code=1)
    assert result.stderr.startswith("error: unexpected RuntimeError: the\nThis is a bug in permgraph: please report it")
    assert "--debug" in result.stderr
    assert "Traceback" not in result.stderr
    assert "Traceback" in run("--debug", *words, code=1).stderr
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_is_told_to_end_leaves_nothing_behind(given, tmp_path):
    code = (
        "import os, signal, sys\nfrom permgraph.checkpoints import writing\nfrom permgraph.cli import main\n"
        "def told(*_, **__):\n    os.kill(os.getpid(), signal.SIGTERM)\n    raise RuntimeError('still here')\n"
        "writing.write_weights = told\nmain()"
    )
    words = ["merge", str(given / "a"), str(given / "b"), "--groups", "conv", "--out", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGTERM, "", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words", [("inspect", "x", "--json"), ("--json", "verify", "x"), ("merge", "x", "y", "--out", "z", "--json")]
)
def test_with_json_an_error_is_an_object_on_stdout(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*words, code=1)
    told = only_json(result)["error"]
    assert told["type"] == "CheckpointError"
    assert result.stderr == f"error: {told['message']}\n"


def test_without_json_stdout_of_an_error_is_empty(tmp_path):
    assert run("inspect", tmp_path / "no", "--json", tmp_path / "file", code=1).stdout == ""
