"""Inputs that need no data: what models write themselves, and noise."""

from __future__ import annotations

from functools import partial

import folders
import pytest
import torch
from commands import run
from learning_cases import planted
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    T5Config,
    T5ForConditionalGeneration,
)

import permgraph as pg
from permgraph.data.own_texts import ROUNDS, TokenInput, generated, write
from permgraph.data.synthetic import Synthetic
from permgraph.errors import CalibrationError, OptionError

MADE = Synthetic._leaves
IDS = torch.arange(8).reshape(2, 4)


class Cyclic(nn.Module):
    """A language model that is sure of id + step."""

    def __init__(self, step: int, size: int = 11) -> None:
        super().__init__()
        self.table = nn.Embedding(size, size)
        self.table.weight.data = 1e3 * torch.eye(size).roll(step, 1)

    def forward(self, ids: Tensor) -> Tensor:
        return self.table(ids)


class Masked(nn.Module):
    """Takes a signal, a mask, and a number for each sample."""

    def forward(self, x: Tensor, mask: Tensor, time: Tensor) -> Tensor:
        return x * mask + time[:, None]


def gpt2() -> nn.Module:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=23, n_embd=16, n_layer=1, n_head=2, n_positions=64)).eval()


def test_each_model_writes_half_of_the_texts() -> None:
    found = pg.synthetic([Cyclic(1).eval(), Cyclic(3).eval()], args=(IDS,), batch_size=6, length=9)
    assert len(found) == 48
    for (ids,) in found[:3]:
        assert ids.shape == (6, 9)
        steps = (ids[:, 1:] - ids[:, :-1]) % 11
        assert steps.tolist() == [[1] * 8] * 3 + [[3] * 8] * 3
    assert len({int(ids[0, 0]) for (ids,) in found}) > 1


def test_a_text_is_what_sampling_one_token_after_the_other_gives() -> None:
    model, text, start = gpt2(), TokenInput(0, 23, 0), torch.randint(23, (5, ROUNDS + 1))
    drawn = write(lambda leaves: model(*leaves).logits, [start], text, torch.Generator().manual_seed(3))
    chances = torch.rand(5, ROUNDS, 1, generator=torch.Generator().manual_seed(3))
    ids = start[:, :1]
    for t in range(ROUNDS):
        sums = model(ids).logits[:, -1].detach().softmax(-1).cumsum(-1)
        ids = torch.cat([ids, torch.searchsorted(sums, chances[:, t] * sums[:, -1:])], dim=1)
    assert (drawn == ids).float().mean() > 0.95  # a rounding error can tip a token, and all behind it
    assert (drawn[0] == ids[0]).all()


def test_a_model_that_generates_writes_as_one_that_does_not() -> None:
    model, start = gpt2(), torch.full((2000, 8), 5)
    with torch.no_grad():
        model.lm_head.weight.mul_(40)  # also the table: the next id depends on the ids before
    own = generated(model, start, torch.Generator().manual_seed(0))
    other = write(lambda leaves: model(*leaves).logits, [start], TokenInput(0, 23, 0), torch.Generator().manual_seed(1))
    assert own is not None
    counts = [ids[:, 1:].flatten().bincount(minlength=23) / (2000 * 7) for ids in (own, other)]
    assert counts[0].max() > 0.1
    torch.testing.assert_close(*counts, atol=0.02, rtol=0)
    assert generated(Cyclic(1), start, torch.Generator()) is None


def test_ids_are_uniform_where_nothing_predicts_the_next() -> None:
    torch.manual_seed(0)
    config = BertConfig(vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    inputs = {"input_ids": IDS, "token_type_ids": torch.tensor([[0, 0, 1, 1]] * 2)}
    found = pg.synthetic([BertForMaskedLM(config).eval()], kwargs=inputs, batch_size=200, samples=400)
    first = found[0]
    assert first["input_ids"].unique().numel() == 40
    assert (first["token_type_ids"] == inputs["token_type_ids"][0]).all()
    assert "synthetic" in found.unit


def test_a_decoder_writes_what_an_encoder_reads_is_uniform() -> None:
    torch.manual_seed(0)
    config = T5Config(vocab_size=30, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0)
    found = pg.synthetic(
        [T5ForConditionalGeneration(config).eval()], kwargs={"input_ids": IDS, "decoder_input_ids": IDS}
    )
    assert [(text.vocabulary, text.logits is not None) for text in found.texts] == [(30, False), (30, True)]


@pytest.mark.parametrize("shape", [(4, 3, 16, 16), (4, 2000), (4, 12, 50)], ids=str)
def test_noise_is_smooth_and_has_edges(shape: tuple[int, ...]) -> None:
    example = 5 + 2 * torch.randn(shape)
    ((x,),) = pg.synthetic([nn.Identity().eval()], args=(example,), batch_size=64, samples=64)
    assert x.shape == (64, *shape[1:])
    torch.testing.assert_close(x.mean(), example.mean())
    torch.testing.assert_close(x.std(correction=0), example.std(correction=0))
    steps = x.diff(dim=-1)
    assert steps.square().mean() < 0.7 * 2 * x.var()  # of white noise it is twice the variance
    edges = steps[:32].abs() < 1e-5
    assert edges.float().mean() > 0.5 > (steps[32:].abs() < 1e-5).float().mean()


def test_masks_and_numbers_are_repeated() -> None:
    mask, time = torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 0.0]]), torch.tensor([7.0, 9.0])
    found = pg.synthetic([Masked().eval()], args=(torch.zeros(2, 3), mask), kwargs={"time": time}, batch_size=4)
    batch = found[0]
    assert batch["mask"].tolist() == mask.repeat(2, 1).tolist()
    assert batch["time"].tolist() == [7.0, 9.0] * 2
    assert 0.5 < batch["x"].std() < 2


def test_a_seed_decides() -> None:
    one, again, other = (pg.synthetic([gpt2()], args=(IDS,), samples=20, seed=seed) for seed in (0, 0, 1))
    assert len(one) == 1
    assert torch.equal(one[0][0], again[0][0])
    assert not torch.equal(one[0][0], other[0][0])
    with pytest.raises(IndexError):
        one[1]


REFUSED = {
    "no example": (CalibrationError, "take their shapes", {}),
    "nothing to draw": (CalibrationError, "no input", {"args": (torch.ones(2, 3),)}),
    "no samples": (OptionError, "samples is at least 1", {"args": (torch.randn(2, 3),), "samples": 0}),
    "too many inputs": (CalibrationError, "do not fit", {"args": (torch.randn(2, 3),), "kwargs": {"y": 1}}),
    "not its inputs": (CalibrationError, "cannot be run", {"kwargs": {"y": torch.randn(2, 3)}}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_made_is_refused(case: str) -> None:
    error, match, inputs = REFUSED[case]
    with pytest.raises(error, match=match):
        pg.synthetic([nn.Identity().eval()], **inputs)


def test_a_length_that_the_models_cannot_take_is_refused() -> None:
    with pytest.raises(CalibrationError, match="cannot be run"):
        pg.synthetic([gpt2()], args=(IDS,), length=65)[0]


def test_an_element_is_learned_without_data() -> None:
    pair = planted()
    found = pg.synthetic([pair.model, pair.other], args=(pair.batches[0],), samples=96)
    aligned = pg.align(pair.model, pair.other, found, kinds="all", method="learned", steps=60)
    merged = pg.merge(pair.model, pair.other, alignment=aligned)
    plain = pg.merge(pair.model, pair.other)
    kept = partial(pg.fidelity, model_a=pair.model, model_b=pair.other, data=pair.batches)
    assert kept(merged).divergence < 0.2 * kept(plain).divergence


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> object:
    root = tmp_path_factory.mktemp("synthetic")
    for seed, name in enumerate("ab"):
        folders.bert(root / name, seed=seed)
    return root


def test_the_command_line_takes_synthetic_for_data(given, tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    words = ("merge", given / "a", given / "b", "--method", "correlation", "--data", "synthetic", "--limit", 32)
    printed = run(*words, "--out", tmp_path / "out").stdout
    assert "32 synthetic samples in 2 batches" in printed
    assert "the merge keeps" in printed
    assert "leave out --max-memory" in run(*words, "--max-memory", "1GB", "--out", tmp_path / "more", code=1).stderr
    monkeypatch.chdir(tmp_path)
    (tmp_path / "synthetic").mkdir()  # a folder of this name is data
    assert "no text files" in run(*words, "--out", tmp_path / "more", code=1).stderr


def test_texts_are_written_once_for_matching_healing_and_judging(given, tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    written = []
    monkeypatch.setattr(Synthetic, "_leaves", lambda self, k: written.append(k) or MADE(self, k))
    words = ("--method", "correlation", "--merge", "linear+heal", "--data", "synthetic", "--limit", 32)
    run("merge", given / "a", given / "b", *words, "--out", tmp_path / "m")
    assert sorted(written) == [0, 1]


def test_a_model_in_training_is_refused_and_stays_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(pg.CaptureError, match="in training mode"):
        pg.synthetic([nn.Identity().eval(), model], args=(torch.randn(2, 3, 8, 8),))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_how_a_model_likes_to_generate_does_not_count() -> None:
    model = gpt2()
    plain = pg.synthetic([model], args=(IDS,), length=12)[0][0]
    cold = GenerationConfig(do_sample=True, temperature=0.05, top_p=0.3, repetition_penalty=1.5)
    model.generation_config = cold  # type: ignore[assignment]
    assert torch.equal(pg.synthetic([model], args=(IDS,), length=12)[0][0], plain)
    assert model.generation_config is cold


@pytest.mark.parametrize("ids", [torch.zeros(2, 6, dtype=torch.long), torch.arange(6).repeat(2, 1)], ids=["0", "0 1 2"])
def test_ids_are_told_from_types_and_positions_of_the_same_numbers(ids: Tensor) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = BertConfig(vocab_size=40, max_position_embeddings=16, **sizes)
    inputs = {"input_ids": ids, "token_type_ids": torch.zeros_like(ids), "position_ids": torch.arange(6).repeat(2, 1)}
    found = pg.synthetic([BertForMaskedLM(config).eval()], kwargs=inputs, batch_size=64, samples=64)[0]
    assert found["input_ids"].unique().numel() == 40
    assert not found["token_type_ids"].any()
    assert torch.equal(found["position_ids"][0], torch.arange(6))
