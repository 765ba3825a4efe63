"""Example inputs of models that write the features of an image over tokens of the text."""

import pytest
import torch
import transformers as hf
from commands import run

import permgraph as pg
from permgraph.data.example_inputs import guess_inputs
from permgraph.data.image_inputs import image_token
from permgraph.models.loading import load

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
TEXT = SIZES | {"vocab_size": 60, "num_key_value_heads": 2, "head_dim": 8, "use_cache": False}
ROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
CLIP = hf.CLIPVisionConfig(**SIZES, image_size=32, patch_size=16, projection_dim=32)
SIGLIP = hf.SiglipVisionConfig(**SIZES, image_size=32, patch_size=8)
SQUARES = SIZES | {"image_size": 32, "patch_size": 8}
IMAGE = 59
TOKENS = {"image_token_id": IMAGE, "image_token_index": IMAGE}
QWEN = TOKENS | {"video_token_id": 58, "vision_start_token_id": 57, "vision_end_token_id": 56}
CASES = {
    "pixels": lambda: hf.LlavaConfig(text_config=hf.LlamaConfig(**TEXT), vision_config=CLIP, **TOKENS),
    "pixels and sizes": lambda: hf.Mistral3Config(
        text_config=hf.MistralConfig(**TEXT), vision_config=hf.PixtralVisionConfig(**SQUARES, head_dim=8),
        spatial_merge_size=2, **TOKENS,
    ),
    "parts of an image": lambda: hf.LlavaNextConfig(
        text_config=hf.LlamaConfig(**TEXT), vision_config=CLIP, image_grid_pinpoints=[[32, 32], [32, 64]], **TOKENS
    ),
    "several images": lambda: hf.Idefics3Config(
        text_config=hf.LlamaConfig(**TEXT), vision_config=SQUARES, scale_factor=2, image_token_id=IMAGE
    ),
    "patches in a row": lambda: hf.Qwen2_5_VLConfig(
        text_config=TEXT | {"rope_parameters": ROPE},
        vision_config=SIZES | {"out_hidden_size": 32, "depth": 2, "num_heads": 4, "patch_size": 8, "window_size": 32},
        **QWEN,
    ),
    "pooled features": lambda: hf.Gemma3Config(
        text_config=hf.Gemma3TextConfig(**TEXT), vision_config=SIGLIP, mm_tokens_per_image=4, **TOKENS
    ),
}  # fmt: skip


def built(case, seed=0):
    torch.manual_seed(seed)
    return hf.AutoModelForImageTextToText.from_config(CASES[case]()).eval()


@pytest.mark.parametrize("case", CASES)
def test_a_row_of_text_has_as_many_image_tokens_as_its_image_has_features(case):
    model = built(case)
    _, inputs = guess_inputs(model)
    images = (inputs["input_ids"] == IMAGE).sum(1)
    assert image_token(model) == IMAGE
    assert "pixel_values" in inputs
    assert images[0] == images[1] > 0
    with torch.no_grad():
        assert model(**inputs).logits.shape[:2] == inputs["input_ids"].shape


def test_text_alone_where_no_form_of_an_image_fits():
    model = built("pixels")
    model.model.get_image_features = None
    _, inputs = guess_inputs(model)
    assert list(inputs) == ["input_ids"]
    assert not (inputs["input_ids"] == IMAGE).any()


@pytest.mark.slow
def test_folders_are_merged_with_the_tower_that_sees(tmp_path):
    for seed in (0, 1):
        built("pixels", seed).save_pretrained(tmp_path / str(seed))
    done = run("merge", tmp_path / "0", tmp_path / "1", "--out", tmp_path / "out")
    assert "vision_tower" in done.stdout
    assert "warning" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_every_form_is_traced_and_proved(case, tmp_path):
    built(case).save_pretrained(tmp_path / "a")
    loaded = load(str(tmp_path / "a"))
    certificate = pg.verify(loaded, trials=2)
    assert certificate.ok, certificate
    assert not [name for name in pg.derive(loaded).unreached if "layers.0" in name]
