"""Refusals that need a broken installation, a broken disk or a broken model to be seen."""

import builtins
import json
import re
import sys
import types

import folders
import numpy as np
import pytest
import soundfile
import torch
from tiny_models import built
from transformers import BertConfig
from typer.testing import CliRunner

import permgraph as pg
from permgraph.adapters import Adapter, adapter_for
from permgraph.checkpoints.writing import save_checkpoint
from permgraph.cli.app import app
from permgraph.comparing import models as models_compared
from permgraph.data.audio import AudioBatches
from permgraph.data.batches import Batches
from permgraph.data.images import read_image
from permgraph.data.processors import load_processor
from permgraph.errors import AdapterError, CalibrationError, CheckpointError
from permgraph.jobs import files
from permgraph.models.loading import load
from permgraph.models.references import find_folder
from permgraph.requirements import unusable


def without(monkeypatch, *names):
    """An interpreter in which these packages are not installed."""
    real = builtins.__import__

    def importing(name, *args, **kwargs):
        if name.split(".")[0] in names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    for name in names:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(builtins, "__import__", importing)


def test_a_broken_package_is_named_and_not_the_one_that_needs_it(tmp_path, monkeypatch):
    """As a torchvision that was built for another PyTorch, behind transformers or timm."""
    (tmp_path / "broken_vision.py").write_text("raise RuntimeError('operator nms does not exist')")
    (tmp_path / "needs_it.py").write_text("import broken_vision")
    (tmp_path / "needs_another.py").write_text("import not_there")
    monkeypatch.syspath_prepend(tmp_path)
    broken = r"needs_it, and broken_vision cannot be imported \(operator nms does not exist\): install a build of it"
    absent = r"needs_another, which needs not_there, which is not installed: pip install not_there"
    for name, message in (("needs_it", broken), ("needs_another", absent)):
        with pytest.raises((ImportError, RuntimeError)) as caught:
            __import__(name)
        assert re.match(message, unusable(name, caught.value))


def test_classes_that_transformers_cannot_import(tmp_path, monkeypatch):
    """It imports its classes when they are asked for."""
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')

    def unavailable(*_):
        raise ModuleNotFoundError("Could not import module 'GPT2Model'") from ModuleNotFoundError("no", name="nowhere")

    monkeypatch.setattr("permgraph.models.loading.empty_model", unavailable)
    with pytest.raises(CheckpointError, match=r"transformers, which needs nowhere, which is not installed"):
        load(str(tmp_path))


def test_a_processor_that_transformers_cannot_import(tmp_path, monkeypatch):
    without(monkeypatch, "transformers")
    with pytest.raises(CalibrationError, match=r"its processor \(AutoTokenizer\) needs transformers, which is not"):
        load_processor("AutoTokenizer", tmp_path)


def test_a_hub_id_without_the_hub(monkeypatch):
    without(monkeypatch, "huggingface_hub")
    with pytest.raises(CheckpointError, match=r"owner/name: no such folder here.*pip install 'permgraph\[hub\]'"):
        find_folder("owner/name")


def test_a_folder_without_transformers(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    without(monkeypatch, "transformers")
    with pytest.raises(AdapterError, match=r"needs transformers.*pip install 'permgraph\[hub\]'"):
        load(str(tmp_path))


def test_sound_without_soundfile(tmp_path, monkeypatch):
    (tmp_path / "a.wav").touch()
    without(monkeypatch, "soundfile")
    with pytest.raises(CalibrationError, match=r"pip install 'permgraph\[audio\]'"):
        AudioBatches(tmp_path)


def test_sound_that_is_not_finite(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(80_000, np.nan), 16_000, subtype="FLOAT")
    with pytest.raises(CalibrationError, match=r"a\.wav: holds samples that are NaN or infinite. Repair"):
        AudioBatches(tmp_path)


def test_pictures_without_pillow(tmp_path, monkeypatch):
    without(monkeypatch, "PIL")
    with pytest.raises(
        CalibrationError, match=r"a\.png: reading images needs Pillow, which is not installed: pip install"
    ):
        read_image(tmp_path / "a.png")


def test_batches_that_are_not_finite():
    batches = Batches(
        [0, 1], lambda rows: {"x": torch.tensor([float(row) / row if row else np.nan for row in rows])}, 1
    )
    with pytest.raises(CalibrationError, match="batch 0 of x holds NaN"):
        list(batches)


def test_a_whisper_made_by_code_has_nothing_to_read_with(tmp_path):
    loaded = load(str(folders.checkpoint(tmp_path / "a", "BertModel", folders.TEXT)))
    whisper = adapter_for("whisper")
    with pytest.raises(CalibrationError, match="has no feature extractor"):
        whisper.calibration(tmp_path, model=loaded.model, folder=None)


def test_a_config_that_names_no_class():
    config = BertConfig(**folders.TEXT, architectures=["NoSuchClass"])

    class Unmapped(BertConfig):
        pass

    config.__class__ = Unmapped
    with pytest.raises(AdapterError, match=r"names no model class.*NoSuchClass.*Correct `architectures`"):
        Adapter().model_classes(config)


def test_a_config_of_which_no_model_can_be_built(tmp_path):
    fields = {"model_type": "gpt2", "n_embd": 30, "n_head": 4, "n_layer": 1, "vocab_size": 9}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    with pytest.raises(AdapterError, match=r"GPT2\w* cannot be built from config\.json: .*Correct the field"):
        load(str(tmp_path), weights=False)


def test_weights_that_a_class_cannot_take(tmp_path, monkeypatch):
    built("gpt2").save_pretrained(tmp_path)

    def failing(*args, **kwargs):
        raise RuntimeError("the sky fell")

    monkeypatch.setattr("transformers.GPT2LMHeadModel.from_pretrained", failing)
    with pytest.raises(CheckpointError, match="GPT2LMHeadModel cannot take these weights: RuntimeError: the sky fell"):
        load(str(tmp_path))


def test_a_file_on_a_disk_that_refuses_it(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(CheckpointError, match=r"cannot be written.*No space"):
        files.write(tmp_path / "x.json", "{}")
    assert list(tmp_path.iterdir()) == []


def test_a_match_of_many_that_changes_a_function_is_refused(tmp_path, monkeypatch):
    models = [
        str(folders.checkpoint(tmp_path / name, "BertModel", folders.TEXT, seed=k)) for k, name in enumerate("abc")
    ]
    bad = pg.Certificate(False, 1.0, 1e-8, ("residual",), 1, 0)
    monkeypatch.setattr(models_compared, "certify", lambda *args, **kwargs: bad)
    result = CliRunner().invoke(app, ["merge", *models, "--groups", "feed_forward", "--out", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert "the alignment of model 2 is refused: the function changes: residual" in result.stderr
    assert not (tmp_path / "out").exists()


# In place of timm, which needs a torchvision for this torch: what permgraph asks of it.


class Net(torch.nn.Sequential):
    def __init__(self, width=8, classes=3):
        super().__init__(
            torch.nn.Conv2d(3, width, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
            torch.nn.Linear(width, classes),
        )  # fmt: skip


@pytest.fixture
def timm(monkeypatch):
    module, data = types.ModuleType("timm"), types.ModuleType("timm.data")

    def create_model(name, pretrained, num_classes=3, **more):
        if name != "net":
            raise RuntimeError(f"Unknown model ({name})")
        return Net(classes=num_classes)

    def create_transform(input_size, is_training):
        return lambda image: torch.from_numpy(np.array(image.resize(input_size[1:]))).permute(2, 0, 1) / 255

    module.create_model, module.__version__, module.list_models = create_model, "1.0", lambda: ["net"]
    data.resolve_model_data_config = lambda model: {"input_size": (3, 12, 12)}
    data.create_transform = create_transform
    monkeypatch.setitem(sys.modules, "timm", module)
    monkeypatch.setitem(sys.modules, "timm.data", data)


def timm_folder(folder, seed, **fields):
    torch.manual_seed(seed)
    save_checkpoint(folder, Net().state_dict())
    config = {"architecture": "net", "num_classes": 3, "pretrained_cfg": {"mean": [0.5], "std": [0.5]}} | fields
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_two_folders_of_timm_are_matched_on_images_by_its_own_transform(timm, tmp_path):
    image = pytest.importorskip("PIL.Image")
    a, b = (timm_folder(tmp_path / name, seed) for seed, name in enumerate("ab"))
    (tmp_path / "pictures").mkdir()
    for number in range(8):
        pixels = np.random.default_rng(number).integers(0, 255, (20, 20, 3), dtype=np.uint8)
        image.fromarray(pixels).save(tmp_path / "pictures" / f"{number}.png")
    words = ["merge", str(a), str(b), "--data", str(tmp_path / "pictures"), "--out", str(tmp_path / "out"), "--json"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["method"] == "correlation"
    assert json.loads((tmp_path / "out" / "config.json").read_text())["architecture"] == "net"
    assert "library_name: timm" in (tmp_path / "out" / "README.md").read_text()
    assert load(str(tmp_path / "out")).model.training is False
    assert load(str(a), weights=False).model[0].weight.is_meta


def test_timm_models_that_do_not_fit(timm, tmp_path):
    with pytest.raises(CheckpointError, match=r"timm:nett: RuntimeError: Unknown model .* no such model; near: net\."):
        load("timm:nett")
    with pytest.raises(CheckpointError, match=r"timm 1\.0 cannot build 'other': RuntimeError: Unknown model"):
        load(str(timm_folder(tmp_path / "a", 0, architecture="other")))
    with pytest.raises(CheckpointError, match=r"do not fit net: of another shape: 4\.weight .file .3, 8., net .5, 8.."):
        load(str(timm_folder(tmp_path / "b", 0, num_classes=5)))
