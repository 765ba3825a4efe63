"""A model with a head computes what its head returns: hidden states that it returns besides may move."""

import copy
import json

import pytest
import torch
import transformers as hf
from test_image_inputs import built as seeing
from tiny_models import built
from typer.testing import CliRunner

import permgraph as pg
from permgraph.cli.app import app
from permgraph.models.loading import load

BART = {
    "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "vocab_size": 60, "max_position_embeddings": 40,
}  # fmt: skip
MODELS = {
    "an encoder whose stream is the decoder's": lambda: built("t5"),
    "an encoder of its own": lambda: hf.BartForConditionalGeneration(hf.BartConfig(**BART)),
    "a part that sees": lambda: seeing("pixels"),
}


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in MODELS]


@pytest.mark.parametrize("name", [next(iter(MODELS)), *SLOW[1:]])
def test_streams_move_that_are_returned_beside_the_head(name: str, tmp_path) -> None:
    MODELS[name]().save_pretrained(tmp_path / "a")
    loaded = load(str(tmp_path / "a"))
    spec = pg.derive(loaded)
    assert [group.size for group in spec.groups if group.role == "residual"]
    assert spec.coverage > 0.98
    assert pg.verify(copy.deepcopy(loaded.model), (), loaded.kwargs, spec=spec, trials=1)
    moved = copy.deepcopy(loaded.model)
    moved.load_state_dict(spec.apply(spec.sample(1), loaded.model.state_dict()))
    with torch.no_grad():
        before, after = (model(**loaded.kwargs).logits for model in (loaded.model, moved))
    assert torch.allclose(before, after, atol=1e-4)


def test_what_is_not_held_is_named_and_can_be_held(tmp_path) -> None:
    built("t5").save_pretrained(tmp_path / "a")
    a, out = str(tmp_path / "a"), tmp_path / "out"
    shown, held, aligned = (
        CliRunner().invoke(app, command)
        for command in (["inspect", a], ["inspect", a, "--outputs", "fixed"], ["align", a, a, "--out", str(out)])
    )
    assert (shown.exit_code, held.exit_code, aligned.exit_code) == (0, 0, 0)
    named = "hidden states that the model returns, whose units may move: encoder_last_hidden_state"
    assert named in shown.output
    assert named in aligned.output
    assert "beside" not in held.output
    assert named in json.loads((out / "permgraph.json").read_text())["not_held"]


def test_a_module_keeps_all_that_it_returns() -> None:
    model = built("t5")
    ids = torch.arange(1, 9)[None]
    spec = pg.derive(model, (), {"input_ids": ids, "decoder_input_ids": ids})
    assert "residual" not in {group.role for group in spec.groups}


def test_a_module_is_matched_with_a_model_from_a_folder(tmp_path) -> None:
    built("t5").save_pretrained(tmp_path / "a")
    loaded, module = load(str(tmp_path / "a")), built("t5")
    assert pg.align(module, loaded, kwargs=loaded.kwargs).certificate
    assert pg.align(loaded, module, kwargs=loaded.kwargs).certificate


IDS = {name: torch.arange(1, 9)[None] for name in ("input_ids", "decoder_input_ids")}


class Two(torch.nn.Module):
    """Returns classes and what they are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = torch.nn.Linear(4, 6), torch.nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = torch.tanh(self.inner(x))
        return self.outer(hidden), hidden


def test_streams_that_are_held_are_told_of_and_can_be_let_go() -> None:
    a, b = built("t5"), built("t5")
    with pytest.warns(pg.PermgraphWarning, match=r"returns encoder_last_hidden_state.*pg\.returning\(model\)"):
        pg.align(a, b, kwargs=IDS)
    for results in ((), ("logits",)):
        alone = pg.returning(a, *results)
        aligned = pg.align(alone, b, kwargs=IDS)  # what counts in one counts in both, and nothing warns
        assert [group.size for group in aligned.spec.groups if group.role == "residual"]
        assert pg.verify(alone, (), IDS, spec=pg.derive(alone, (), IDS), trials=1)
        a.load_state_dict(pg.merge(a, b, alignment=aligned))
        assert list(alone(**IDS)) == list(a(**IDS))
    assert "residual" not in {group.role for group in pg.derive(a, (), IDS).groups}  # the model itself is as it was


def test_a_result_that_counts_is_named_or_numbered() -> None:
    x = (torch.randn(5, 4),)
    assert not pg.derive(Two().eval(), x).groups
    assert [group.size for group in pg.derive(pg.returning(Two().eval(), 0), x).groups] == [6]
    for model, wrong in ((Two(), 2), (Two(), "logits"), (torch.nn.Linear(4, 3), "logits")):
        with pytest.raises(pg.CaptureError, match=f"no result {wrong!r}: it"):
            pg.derive(pg.returning(model.eval(), wrong), x)
