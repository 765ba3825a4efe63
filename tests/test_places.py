"""Checkpoints of vision transformers for images of different sizes: their tables of positions are grids of places."""

from __future__ import annotations

from pathlib import Path

import folders
import pytest
import torch
import vision
from commands import only_json, run
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import permgraph as pg
from permgraph.models.loading import load

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "patch_size": 8}
HIDDEN = {"intermediate_size": 64}
FOLDERS = {
    # class: fields, the table, rows before and behind those of the places
    "ViTForImageClassification": (HIDDEN | {"num_labels": 5}, "vit.embeddings.position_embeddings", 1, 0),
    "CLIPVisionModel": (HIDDEN | {"projection_dim": 16}, "embeddings.position_embedding.weight", 1, 0),
    "SiglipVisionModel": (HIDDEN, "embeddings.position_embedding.weight", 0, 0),
    "Dinov2ForImageClassification": (
        {"num_labels": 5, "mlp_ratio": 2}, "dinov2.embeddings.position_embeddings", 1, 0,
    ),
    "DeiTForImageClassification": (HIDDEN | {"num_labels": 5}, "deit.embeddings.position_embeddings", 2, 0),
    "YolosForObjectDetection": (
        HIDDEN | {"num_labels": 5, "num_detection_tokens": 4, "use_mid_position_embeddings": False},
        "vit.embeddings.position_embeddings", 1, 4,
    ),
}  # fmt: skip


def size(kind: str, side: int) -> int | list[int]:
    return [side, side] if kind.startswith("Yolos") else side


def outputs(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        found = model(images)
    first: Tensor = found if isinstance(found, Tensor) else found[0]
    return first


QUICK = ("ViTForImageClassification", "SiglipVisionModel", "YolosForObjectDetection")
CASES = [
    pytest.param(kind, sides, id=f"{kind} {sides[1]} in {sides[0]}", marks=[] if quick else pytest.mark.slow)
    for kind in FOLDERS
    for sides in ((32, 48), (48, 32))
    for quick in (kind in QUICK and (sides[0] == 32) is (kind == QUICK[0]),)
]


@pytest.mark.parametrize(("kind", "sides"), CASES)
def test_folders_for_images_of_other_sizes_are_merged(tmp_path: Path, kind: str, sides: tuple[int, int]) -> None:
    fields, table, before, after = FOLDERS[kind]
    a, b = (
        folders.checkpoint(tmp_path / name, kind, SMALL | fields | {"image_size": size(kind, side)}, seed=side)
        for name, side in zip("ab", sides, strict=True)
    )
    rows = [load_file(folder / "model.safetensors")[table].flatten(0, -2) for folder in (a, b)]
    out = " ".join(run("merge", a, b, "--weight", 0, "--out", tmp_path / "out").stdout.split())
    here, there = (side // 8 for side in sides)
    assert f"positions: the grid of {there} × {there} places in B is resized to {here} × {here}, bicubic" in out
    merged, model = load_file(tmp_path / "out" / "model.safetensors")[table].flatten(0, -2), load(str(tmp_path / "out"))
    assert merged.shape == rows[0].shape
    image = rows[1][before : len(rows[1]) - after].T.reshape(1, -1, there, there)
    resized = nn.functional.interpolate(image, (here, here), mode="bicubic", antialias=True).flatten(2)[0].T
    theirs = torch.cat([rows[1][:before], resized, rows[1][len(rows[1]) - after :]])
    assert torch.allclose(merged.sort(-1).values, theirs.sort(-1).values, atol=1e-5)  # in A's order of units
    assert outputs(model.model, torch.randn(1, 3, sides[0], sides[0])).isfinite().all()
    run("align", a, b, "--out", tmp_path / "moved")
    unmoved, moved = (load(str(folder)) for folder in (b, tmp_path / "moved"))
    assert moved.config.image_size == size(kind, sides[1])
    images = torch.randn(2, 3, sides[1], sides[1])
    assert torch.allclose(outputs(unmoved.model, images), outputs(moved.model, images), atol=1e-4)


@pytest.mark.skipif(not vision.available(), reason="timm is not installed; `make test` installs it")
@pytest.mark.filterwarnings("ignore::Warning:timm.*", "ignore::Warning:torchvision.*")
@pytest.mark.parametrize("sides", [(160, 96), pytest.param((96, 160), marks=pytest.mark.slow)])
def test_files_of_timm_for_images_of_other_sizes_are_merged(tmp_path: Path, sides: tuple[int, int]) -> None:
    vision.load("timm.data")
    timm = vision.load("timm")
    models = []
    for name, side in zip("ab", sides, strict=True):
        torch.manual_seed(side)
        models.append(timm.create_model("test_vit", img_size=side, num_classes=5).eval())
        save_file(models[-1].state_dict(), tmp_path / f"{name}.safetensors")
    words = (tmp_path / "a.safetensors", tmp_path / "b.safetensors", "--model", "timm:test_vit")
    here, there = (side // 16 for side in sides)
    said = run("merge", *words, "--kinds", "all", "--out", tmp_path / "out").stdout
    assert f"the grid of {there} × {there} places in B is resized to {here} × {here}" in " ".join(said.split())
    assert only_json(run("verify", tmp_path / "out", "--trials", 1, "--json"))["ok"]
    run("align", *words, "--out", tmp_path / "moved")
    moved = timm.create_model(f"local-dir:{tmp_path / 'moved'}", pretrained=True).eval()
    images = torch.randn(2, 3, sides[1], sides[1])
    assert torch.allclose(outputs(moved, images), outputs(models[1], images), atol=1e-4)


def test_windows_of_other_sizes_are_refused_by_the_table(tmp_path: Path) -> None:
    fields = {"image_size": 64, "embed_dim": 16, "depths": [1], "num_heads": [2]}
    a, b = (
        folders.checkpoint(tmp_path / str(window), "SwinForImageClassification", fields | {"window_size": window})
        for window in (4, 8)
    )
    with pytest.raises(pg.SpecMismatchError, match="relative_position_bias_table"):
        pg.align(load(str(a)), load(str(b)))
