"""Large matrices taken by rows in a proof: the same certificate, and never the whole of one."""

import pytest
import torch
import transformers as hf
from test_verification import without
from torch import nn

import permgraph as pg
from permgraph.symmetry.proof import trials
from permgraph.tracing import by_rows

TOKENS = {"input_ids": torch.tensor([[5, 2, 5, 30]])}
SMALL = {"vocab_size": 40, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12}


class Own(nn.Module):
    """A head with a bias, and a table that is also read as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head, self.whole = nn.Embedding(40, 8), nn.Linear(8, 30), nn.Embedding(40, 8)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.table(input_ids) + self.whole(input_ids)) + self.whole.weight.sum()


MODELS = {
    "tied": (lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**SMALL, tie_word_embeddings=True)), 1),
    "not tied": (lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**SMALL, tie_word_embeddings=False)), 2),
    "a padding token": (lambda: hf.BertForMaskedLM(hf.BertConfig(**SMALL, max_position_embeddings=8)), 1),
    "a bias, and a table read as it is": (Own, 2),
}


@pytest.fixture
def sizes(monkeypatch):
    """The numbers of every matrix that a proof makes, with all above 100 taken by rows."""
    seen, made = [], trials.generic

    def watched(*args):
        seen.append(made(*args).numel())
        return made(*args)

    monkeypatch.setattr(trials, "generic", watched)
    monkeypatch.setattr(by_rows, "AT_ONCE", 100)
    return seen


@pytest.mark.parametrize(("name", "kinds"), [*((name, "permutation") for name in MODELS), ("tied", "all")])
def test_the_certificate_is_that_of_whole_matrices(name, kinds, monkeypatch, sizes):
    torch.manual_seed(0)
    build, count = MODELS[name]
    model = build().eval()
    spec = pg.derive(model, (), TOKENS, kinds=kinds)
    found = pg.verify(model, (), TOKENS, spec=spec, trials=1)
    large = {id(p) for p in model.parameters() if p.dim() == 2 and len(p) >= 30}
    whole = 40 * 8 if name.endswith("as it is") else 100
    assert len(large) - count == (whole > 100)
    assert max(sizes) <= whole
    monkeypatch.setattr(by_rows, "AT_ONCE", 10**9)
    expected = pg.verify(model, (), TOKENS, spec=spec, trials=1)
    assert found
    assert expected
    assert (found.power, found.untested) == (expected.power, expected.untested)


@pytest.mark.parametrize("wrong", ["model.embed_tokens.weight", "lm_head.weight"])
def test_a_group_that_is_wrong_there_is_named(wrong, sizes):
    model = MODELS["not tied"][0]().eval()
    spec = pg.derive(model, (), TOKENS)
    assert not pg.verify(model, (), TOKENS, spec=without(spec, wrong), trials=1)
    assert max(sizes) <= 100


def test_rows_that_move_are_made_whole(sizes):
    model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 3)).eval()
    assert pg.verify(model, (torch.randn(2, 6),), trials=1)
    assert 32 * 6 in sizes
