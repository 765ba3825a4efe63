"""Folding, and models matched in all kinds: what is planted comes back, by weights and by activations."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from kind_cases import Block, WrittenOutNorm
from tiny_models import MODELS, SMALL, TEXT, WHISPER
from torch import Tensor, nn
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Olmo2Config,
    Olmo2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    ViTConfig,
    ViTForImageClassification,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

import permgraph as pg
from permgraph.symmetry.derivation.folding import NO_READER, TIED, ZEROS, separated, tied

State = Mapping[str, Tensor]
IDS = {"input_ids": torch.randint(0, 50, (2, 12), generator=torch.Generator().manual_seed(0))}


def generic(model: nn.Module) -> nn.Module:
    """Weights without the small scale of an initialisation, and norms away from 1."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn_like(parameter) * parameter.shape[-1] ** -0.5)
            else:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def untied_llama() -> nn.Module:
    return LlamaForCausalLM(LlamaConfig(**TEXT, num_key_value_heads=2))


class Logits(nn.Module):
    """The first output alone: a stream that is an output too is fixed."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, **kwargs: Any) -> Tensor:
        found: Tensor = self.model(**kwargs, use_cache=False).logits
        return found


class Recurrent(nn.Module):
    """A language model of two recurrent layers."""

    def __init__(self, kind: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.embed, self.layers, self.head = nn.Embedding(50, 8), kind(8, 12, 2, batch_first=True), nn.Linear(12, 50)

    def forward(self, input_ids: Tensor) -> Tensor:
        found: Tensor = self.head(self.layers(self.embed(input_ids))[0])
        return found


RECURRENT = {"lstm": nn.LSTM, "gru": nn.GRU}


def built(name: str) -> tuple[nn.Module, tuple[Any, ...], dict[str, Any]]:
    if name == "block":
        return generic(Block(affine=True)), (torch.randn(2, 6, 5),), {}
    if name == "llama":
        return generic(untied_llama()), (), IDS
    if name == "qwen3":  # norms of queries and keys, where five signs of a unit meet
        return generic(Qwen3ForCausalLM(Qwen3Config(**TEXT, num_key_value_heads=2, head_dim=8))), (), IDS
    if name == "cohere":  # a sign for each pair of rotated units, shared by grouped queries and keys, inside each head
        config = CohereConfig(**TEXT, num_key_value_heads=2, use_qk_norm=True, pad_token_id=0)
        return generic(CohereForCausalLM(config)), (), IDS
    if name == "olmo2":  # norms after the sums: a unit of the stream has two more signs for each layer
        return generic(Olmo2ForCausalLM(Olmo2Config(**TEXT, num_key_value_heads=2))), (), IDS
    if name == "mistral":
        return generic(MistralForCausalLM(MistralConfig(**TEXT, num_key_value_heads=2, sliding_window=8))), (), IDS
    if name == "whisper":
        sizes = {key: size for key, size in WHISPER.items() if key != "use_cache"}
        model = Logits(WhisperForConditionalGeneration(WhisperConfig(**sizes)))
        return generic(model), (), {"input_features": torch.randn(2, 8, 40), "decoder_input_ids": IDS["input_ids"]}
    if name == "vit":
        config = ViTConfig(**SMALL, image_size=32, patch_size=16, num_labels=5)
        return generic(ViTForImageClassification(config)), (), {"pixel_values": torch.randn(2, 3, 32, 32)}
    if name in RECURRENT:
        return generic(Recurrent(RECURRENT[name])), (), IDS
    kind, config = MODELS[name]
    return generic(kind(config())), (), IDS


def outputs(model: nn.Module, state: State, args: Any, kwargs: Any) -> Tensor:
    with torch.no_grad():
        found = torch.func.functional_call(model, dict(state), args, kwargs, tie_weights=False)
    return found if isinstance(found, Tensor) else found[0]


def distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / a.abs().max())


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("mistral", "whisper")]
ROTATING = ["block", "llama", "qwen3", "cohere", "gpt2", "vit", *SLOW]
NAMES = pytest.mark.parametrize("name", ROTATING)
NOISED = ("block", "llama", "gpt2", "vit", "mistral", "whisper")


NOISY = pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n != "block")) for n in NOISED])


@NAMES
def test_folding_keeps_the_function_and_lets_the_stream_rotate(name: str) -> None:
    model, args, kwargs = built(name)
    folded = pg.fold(model, args, kwargs, untie=True)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())
    assert folded.folded
    assert distance(outputs(model, before, args, kwargs), outputs(model, folded.state_dict, args, kwargs)) < 1e-5
    apart = separated(model, folded.untied)
    apart.load_state_dict(folded.state_dict)
    spec = pg.derive(apart, args, kwargs, kinds="all")
    kinds = {group.kind for group in spec.groups if group.role == "residual"}
    first = {"permutation", "monomial"} if name == "whisper" else set()  # its encoder's stream begins with a GELU
    assert kinds == {"orthogonal" if name in ("llama", "mistral", "qwen3") else "centred"} | first
    assert set(folded.folded) == set(spec.held)


def test_a_tied_head_comes_apart_only_where_that_is_allowed() -> None:
    model, args, kwargs = built("gpt2")
    kept, apart = (pg.fold(model, args, kwargs, untie=untie) for untie in (False, True))
    assert kept.report["transformer.ln_f.weight"] == TIED
    assert not kept.untied
    assert apart.report["transformer.ln_f.weight"] == ("lm_head.weight",)
    assert apart.untied == ("lm_head.weight",)


def test_what_cannot_be_folded_says_why() -> None:
    model = generic(WrittenOutNorm(weight=True))
    with torch.no_grad():
        model.weight[2] = 0
    assert pg.fold(model, (torch.randn(2, 5),)).report == {"weight": ZEROS}

    class Read(WrittenOutNorm):
        def forward(self, x: Tensor) -> Tensor:
            h = self.a(x)
            h = self.weight * (h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-6))
            return self.b(h) + h.sum(-1, keepdim=True)

    assert pg.fold(generic(Read(weight=True)), (torch.randn(2, 5),)).report in ({}, {"weight": NO_READER})


def planted(model: nn.Module, args: Any, kwargs: Any, kinds: str, seed: int) -> nn.Module:
    """The folded model moved by a random element of these kinds."""
    folded = pg.fold(model, args, kwargs, untie=True)
    other = separated(model, folded.untied)
    if kinds == "all":
        other.load_state_dict(folded.state_dict)
    spec = pg.derive(other, args, kwargs, kinds=kinds)
    other.load_state_dict(spec.apply(spec.sample(seed), other.state_dict()))
    return other


def batches(kwargs: Any, args: Any) -> list[Any]:
    generator = torch.Generator().manual_seed(1)
    if args:
        return [(torch.randn(16, 6, 5, generator=generator),) for _ in range(4)]
    if "pixel_values" in kwargs:
        return [{"pixel_values": torch.randn(16, 3, 32, 32, generator=generator)} for _ in range(6)]
    if "input_features" in kwargs:
        made = [torch.randn(16, 8, 40, generator=generator) for _ in range(4)]
        return [{"input_features": x, "decoder_input_ids": torch.randint(0, 50, (16, 20))} for x in made]
    return [{"input_ids": torch.randint(0, 50, (16, 24), generator=generator)} for _ in range(4)]


@pytest.mark.parametrize("name", [*ROTATING, *RECURRENT])
@pytest.mark.parametrize("method", ["weights", "correlation"])
def test_a_planted_element_of_all_kinds_is_found(name: str, method: str) -> None:
    model, args, kwargs = built(name)
    b = planted(model, args, kwargs, "all", 1)
    a = separated(model, tied(model))
    data = batches(kwargs, args) if method == "correlation" else None
    aligned = pg.align(a, b, data, args=args, kwargs=kwargs, kinds="all")
    assert aligned.certificate.ok
    assert aligned.method == method
    for key, tensor in aligned.reference.items():
        assert distance(tensor, aligned.state_dict[key]) < 1e-5, key
    merged = pg.merge(a, b, alignment=aligned)
    state = a.state_dict()
    assert distance(outputs(a, state, args, kwargs), outputs(a, merged, args, kwargs)) < 1e-5


@pytest.mark.parametrize("name", ["llama", "qwen3", "olmo2", *RECURRENT])
@pytest.mark.parametrize("method", ["weights", "correlation"])
def test_planted_signs_are_found_exactly(name: str, method: str) -> None:
    a, args, kwargs = built(name)
    b = planted(a, args, kwargs, "signed", 2)
    data = batches(kwargs, args) if method == "correlation" else None
    aligned = pg.align(a, b, data, args=args, kwargs=kwargs, kinds="signed")
    assert all(torch.equal(tensor, aligned.state_dict[key]) for key, tensor in a.state_dict().items())
    assert aligned.untied == ()


@NOISY
def test_a_noisy_planted_element_is_found_as_far_as_the_noise_allows(name: str) -> None:
    model, args, kwargs = built(name)
    b = planted(model, args, kwargs, "all", 3)
    a = separated(model, tied(model))
    with torch.no_grad():
        for parameter in b.parameters():
            if parameter.dim() > 1:
                parameter.add_(0.5 * parameter.std() * torch.randn_like(parameter))
    aligned = pg.align(a, b, args=args, kwargs=kwargs, kinds="all")
    pairs = [(t.flatten(), aligned.state_dict[key].flatten()) for key, t in aligned.reference.items() if t.dim() > 1]
    one, other = (torch.cat(side) for side in zip(*pairs, strict=True))
    allowed = (1 + 0.5**2) ** -0.5
    assert torch.cosine_similarity(one, other, dim=0) > 0.89 * allowed


def test_models_that_are_aligned_stay_as_they_are() -> None:
    a, args, kwargs = built("block")
    b, before = copy.deepcopy(a), {key: tensor.clone() for key, tensor in a.state_dict().items()}
    pg.align(a, b, args=args, kwargs=kwargs, kinds="all")
    assert all(torch.equal(before[key], tensor) for key, tensor in a.state_dict().items())


def test_a_unit_with_many_signs_gets_them_all() -> None:
    config = Olmo2Config(**(TEXT | {"num_hidden_layers": 4}), num_key_value_heads=4)  # 9 signs a unit of the stream
    a = generic(Olmo2ForCausalLM(config))
    b = planted(a, (), IDS, "signed", 2)
    aligned = pg.align(a, b, kwargs=IDS, kinds="signed", method="weights")
    assert all(torch.equal(tensor, aligned.state_dict[key]) for key, tensor in a.state_dict().items())


def test_many_models_come_into_one_space() -> None:
    a, args, kwargs = built("block")
    others = [planted(a, args, kwargs, "all", seed) for seed in (1, 2)]
    placed = pg.match_many([a, *others], args=args, kwargs=kwargs, kinds="all")
    assert [one.certificate is None or one.certificate.ok for one in placed] == [True] * 3


@pytest.mark.parametrize("kinds", ["signed", "all"])
def test_a_planted_element_is_found_by_weights_and_activations_at_once(kinds: str) -> None:
    a, args, kwargs = built("block")
    b = planted(a, args, kwargs, kinds, 1)
    found = pg.align(a, b, batches(kwargs, args), mix=0.6, kinds=kinds)
    reference = found.reference if kinds == "all" else a.state_dict()
    assert max(distance(tensor, found.state_dict[key]) for key, tensor in reference.items()) < 1e-5
    assert {gain.bound for gain in found.gains.values()} == {1.0}


class Activated(nn.Module):
    """A stream of activated units, which permute, read through a norm, whose weights take scales and signs."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.norm, self.outer = nn.Linear(5, 12), nn.LayerNorm(12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.outer(self.norm(nn.functional.gelu(self.inner(x))))
        return found


@pytest.mark.parametrize("method", ["weights", "correlation"])
def test_signs_of_norms_are_those_that_weights_tell(method: str) -> None:
    args: tuple[Any, ...] = (torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0)),)
    a, b = generic(Activated()), Activated().eval()
    data = batches({}, args) if method == "correlation" else None
    unrelated = pg.align(a, b, data, args=args, kinds="all")  # units that correlate negatively are no match for it
    assert float(unrelated.state_dict["norm.weight"].min()) > 0
    moved = pg.align(a, planted(a, args, {}, "all", 3), data, args=args, kinds="all")
    assert max(distance(tensor, moved.state_dict[key]) for key, tensor in moved.reference.items()) < 1e-5
