"""Models of diffusers: folders are read and written, input channels that differ, outputs without names."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, ClassVar

import diffusers_beside
import pytest
import torch
from commands import run
from torch.utils import _pytree as pytree

import permgraph as pg
from permgraph.errors import AdapterError, CheckpointError
from permgraph.models.diffusers_models import DiffusersAdapter
from permgraph.models.loading import load

UNET = {
    "sample_size": 8, "block_out_channels": (8, 16), "layers_per_block": 1, "cross_attention_dim": 8,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "attention_head_dim": 4, "norm_num_groups": 4,
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}  # fmt: skip
needs_diffusers = pytest.mark.skipif(
    not diffusers_beside.available(), reason="diffusers is not installed; `make test` installs it"
)
quiet = pytest.mark.filterwarnings("ignore::Warning:diffusers.*", "ignore::Warning:torch.*")


def unets(place: Path, *channels: int) -> list[Path]:
    kind = diffusers_beside.load().UNet2DConditionModel
    for number, count in enumerate(channels):
        torch.manual_seed(number)
        kind(**UNET, in_channels=count).save_pretrained(place / f"{number}" / "unet")
    return [place / f"{number}" / "unet" for number in range(len(channels))]


@quiet
@needs_diffusers
def test_unets_of_pipelines_with_other_input_channels(tmp_path: Path) -> None:
    kind = diffusers_beside.load().UNet2DConditionModel
    a, b = unets(tmp_path, 4, 9)
    out = run("merge", a, b, "--out", tmp_path / "out").stdout
    assert "input channels: the first 4 are the same in both and merged, the last 5 of B left out" in out
    assert kind.from_pretrained(tmp_path / "out").config.in_channels == 4
    assert "from diffusers import UNet2DConditionModel" in (tmp_path / "out" / "README.md").read_text()


@quiet
@needs_diffusers
@pytest.mark.slow
def test_a_moved_unet_with_other_input_channels_computes_what_it_did(tmp_path: Path) -> None:
    kind = diffusers_beside.load().UNet2DConditionModel
    a, b = unets(tmp_path, 4, 9)
    run("align", a, b, "--out", tmp_path / "moved")
    before, after = (kind.from_pretrained(folder).eval() for folder in (b, tmp_path / "moved"))
    given = torch.randn(1, 9, 16, 16), torch.tensor([3]), torch.randn(1, 5, 8)
    with torch.no_grad():
        assert torch.allclose(before(*given).sample, after(*given).sample, atol=1e-4)
    assert not all(torch.equal(one, other) for one, other in zip(before.parameters(), after.parameters(), strict=True))


@quiet
@needs_diffusers
def test_configs_of_diffusers_that_cannot_be_built_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place,) = unets(tmp_path, 4)
    fields = json.loads((place / "config.json").read_text())
    wrong = {
        "has no model 'Nothing'": {"_class_name": "Nothing"},
        "UNet2DConditionModel cannot be built from it: .*Correct the field": {"up_block_types": ["Nothing"]},
    }
    for message, more in wrong.items():
        (place / "config.json").write_text(json.dumps(fields | more))
        with pytest.raises(CheckpointError, match=message):
            load(str(place))
    (place / "config.json").write_text(json.dumps(fields))
    with pytest.raises(CheckpointError, match="models of diffusers are made whole in memory"):
        load(str(place), on_demand=True)
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(CheckpointError, match=r"which is not installed: pip install 'permgraph\[diffusers\]'"):
        load(str(place))


TEXT_TIME = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 4,
    "projection_class_embeddings_input_dim": 32,
}
PATCHES = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 1, "patch_size": 2, "sample_size": 8}
TWO = {"joint_attention_dim": 8, "caption_projection_dim": 16, "pooled_projection_dim": 12, "pos_embed_max_size": 16}
FLUX = {
    "num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 1, "num_single_layers": 1, "in_channels": 4,
    "patch_size": 1, "joint_attention_dim": 8, "pooled_projection_dim": 12, "axes_dims_rope": (2, 2, 4),
}  # fmt: skip
MORE_INPUTS: dict[str, tuple[str, dict[str, Any]]] = {
    "text and sizes, as in SDXL": ("UNet2DConditionModel", UNET | {"in_channels": 4} | TEXT_TIME),
    "classes": ("UNet2DConditionModel", UNET | {"in_channels": 4, "num_class_embeds": 5}),
    "patches and classes, as in DiT": ("DiTTransformer2DModel", PATCHES | {"num_embeds_ada_norm": 10}),
    "patches and captions, as in PixArt": (
        "PixArtTransformer2DModel", PATCHES | {"cross_attention_dim": 16, "caption_channels": 12},
    ),
    "tokens and their places, as in Flux": ("FluxTransformer2DModel", FLUX | {"guidance_embeds": True}),
    "patches and text, as in SD3": ("SD3Transformer2DModel", PATCHES | TWO),
}  # fmt: skip


@quiet
@needs_diffusers
@pytest.mark.parametrize("name", MORE_INPUTS)
def test_inputs_that_the_config_calls_for_are_made(tmp_path: Path, name: str) -> None:
    kind, fields = MORE_INPUTS[name]
    torch.manual_seed(0)
    getattr(diffusers_beside.load(), kind)(**fields).save_pretrained(tmp_path)
    loaded = load(str(tmp_path))
    found = pg.verify(loaded, spec=(spec := pg.derive(loaded)), trials=1)
    assert found.ok
    assert spec.groups


def test_inputs_that_cannot_be_made_are_named() -> None:
    class Other(torch.nn.Module):
        config: ClassVar[dict[str, Any]] = {}

        def forward(self, sample: torch.Tensor, camera: torch.Tensor) -> torch.Tensor:
            return sample + camera

    with pytest.raises(AdapterError, match="Other takes camera, and no example of that can be made"):
        DiffusersAdapter().example_inputs(Other())


class Pair(dict[str, Any]):
    """An output that is registered without names, as those of diffusers are."""


class Listed(list[Any]):
    """The same without keys."""


pytree.register_pytree_node(
    Pair, lambda p: (list(p.values()), list(p)), lambda values, keys: Pair(zip(keys, values, strict=True))
)
pytree.register_pytree_node(Listed, lambda p: (list(p), None), lambda values, _: Listed(values))


@pytest.mark.parametrize("made", [lambda h: Pair(a=h, b=(h, h)), lambda h: Listed([h, (h, h)])], ids=["keys", "none"])
def test_outputs_of_classes_without_names_are_traced(made: Any) -> None:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.out = torch.nn.Linear(4, 6), torch.nn.Linear(6, 2)

        def forward(self, x: torch.Tensor) -> Any:
            return made(self.out(self.up(x).relu()))

    model, x = Net().eval(), torch.randn(3, 4)
    spec = pg.derive(model, x)
    assert [group.size for group in spec.groups] == [6]
    assert len(spec.output_layouts) == 3
    assert pg.verify(model, (x,))
