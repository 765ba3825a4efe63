"""Models of timm, by the real one: inspected by name, folders that it wrote aligned and merged on pictures."""

import json
import re

import numpy as np
import pytest
import torch
import vision
from commands import only_json, run
from PIL import Image
from safetensors.torch import load_file, save_file

pytestmark = [
    pytest.mark.skipif(not vision.available(), reason="timm is not installed; `make test` installs it"),
    pytest.mark.filterwarnings("ignore::Warning:timm.*", "ignore::Warning:torchvision.*"),
]


@pytest.fixture(scope="module")
def timm():
    vision.load("timm.data")
    vision.load("timm.models")
    return vision.load("timm")


@pytest.fixture(scope="module")
def given(timm, tmp_path_factory):
    """Two folders that timm wrote, one in its older format, and pictures."""
    root = tmp_path_factory.mktemp("timm")
    for seed, name in enumerate("ab"):
        torch.manual_seed(seed)
        model = timm.create_model("test_resnet", num_classes=5)
        timm.models.save_for_hf(model, str(root / name), safe_serialization=bool(seed))
    (root / "pictures").mkdir()
    noise = np.random.default_rng(0)
    for number in range(24):
        pixels = noise.integers(0, 255, (24, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((200, 180)).save(root / "pictures" / f"{number}.png")
    return root


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext"])
def test_inspected_by_name(timm, name):
    spec = only_json(run("inspect", f"timm:{name}", "--json", "--quiet"))
    assert spec["groups"]


def test_a_folder_proves_its_groups(given):
    assert only_json(run("verify", given / "a", "--trials", 1, "--json"))["ok"]


@pytest.mark.parametrize("command", ["align", "merge"])
def test_two_folders_on_pictures_make_one_that_timm_loads(timm, given, tmp_path, command):
    out = tmp_path / "out"
    words = (command, given / "a", given / "b", "--data", given / "pictures", "--out", out, "--json")
    assert only_json(run(*words))["method"] == "correlation"
    model = timm.create_model(f"local-dir:{out}", pretrained=True).eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    b = timm.create_model(f"local-dir:{given / 'b'}", pretrained=True).eval()
    with torch.no_grad():
        same = torch.allclose(model(images), b(images), atol=1e-4)
    assert same is (command == "align")


def test_a_model_by_name_merges_with_a_folder(timm, given, tmp_path, monkeypatch):
    create = timm.create_model  # and no network
    monkeypatch.setattr(
        timm, "create_model", lambda name, pretrained, **more: create(name, **{"num_classes": 5} | more)
    )
    out = tmp_path / "out"
    run("merge", "timm:test_resnet", given / "a", "--out", out)
    monkeypatch.undo()
    assert json.loads((out / "config.json").read_text())["architecture"] == "test_resnet"
    assert timm.create_model(f"local-dir:{out}", pretrained=True).num_classes == 5


@pytest.mark.parametrize("name", ["test_resnet", pytest.param("test_convnext", marks=pytest.mark.slow)])
def test_classifiers_of_other_labels_stay_and_the_rest_is_merged(timm, tmp_path, name):
    for folder, classes in (("a", 5), ("b", 3)):
        torch.manual_seed(classes)
        model = timm.create_model(name, num_classes=classes)
        timm.models.save_for_hf(model, str(tmp_path / folder), safe_serialization=True)
    found = only_json(run("merge", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "out", "--json"))
    assert re.fullmatch(
        r"heads not merged \(.* is \(5, \d+\) in a and \(3, .* in b\); kept .*; left out: .* of b", found["heads"]
    )
    a, out = (load_file(tmp_path / folder / "model.safetensors") for folder in ("a", "out"))
    same = {key for key in a if torch.equal(a[key], out[key])}
    classifier = {key for key, tensor in a.items() if 5 in tensor.shape[:1]}
    assert classifier <= same
    assert {key for key, tensor in a.items() if tensor.dim() > 1} - classifier <= a.keys() - same
    run("align", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "moved")
    assert timm.create_model(f"local-dir:{tmp_path / 'moved'}", pretrained=True).num_classes == 3


SIZES = {"classes": {"num_classes": 7}, "one channel": {"in_chans": 1}, "both": {"num_classes": 3, "in_chans": 2}}


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_files_of_other_classes_and_channels_than_a_name_has(timm, tmp_path, sizes):
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", **sizes)
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    torch.save({"state_dict": {f"module.{name}": t for name, t in model.state_dict().items()}}, tmp_path / "b.pth")
    out = tmp_path / "out"
    run("align", tmp_path / "a.safetensors", tmp_path / "b.pth", "--model", "timm:test_resnet", "--out", out)
    moved = timm.create_model(f"local-dir:{out}", pretrained=True).eval()
    images = torch.randn(2, sizes.get("in_chans", 3), 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(moved(images), model.eval()(images), atol=1e-4)
    assert only_json(run("verify", out, "--trials", 1, "--json"))["ok"]
