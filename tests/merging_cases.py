"""Models, batches and pairs of unrelated models that the tests of merging work on."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from pairs import HUBERT, mlp, spread
from torch import Tensor, nn
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel, HubertModel

import permgraph as pg
from permgraph.comparing.batches import Batches
from permgraph.comparing.calibration import Calibration
from permgraph.comparing.models import Models
from permgraph.tracing.capture import capture
from permgraph.tracing.program import Program

Batch = Any


class Block(nn.Module):
    """A residual block with BatchNorm, without biases before it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))))


def resnet() -> nn.Module:
    stem = [nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
    return nn.Sequential(*stem, Block(8), Block(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))


def convs() -> nn.Module:
    """Stride, dilation, groups, padding by name, and a kernel that is not square."""
    return nn.Sequential(
        nn.Conv2d(3, 8, (3, 2), stride=(1, 2), padding=(2, 1)),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, groups=4, dilation=2, padding="same"),
        nn.ReLU(),
        nn.Conv2d(12, 6, 3, padding="same", bias=False),
        nn.ReLU(),
        nn.Flatten(2),
        nn.Conv1d(6, 5, 4, stride=3, padding="valid"),
        nn.Flatten(),
        nn.LazyLinear(4),
    )


class Tail(nn.Module):
    """Weights used as matrices: transposed, as they are, and twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(5, 6))
        self.second = nn.Parameter(torch.randn(6, 6))
        self.last = nn.Linear(6, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(x @ self.first)
        x = torch.relu(x @ self.second.T)
        return self.last(torch.relu(x @ self.second.T))


def small_bert() -> nn.Module:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    return BertModel(BertConfig(vocab_size=50, **sizes))


def small_gpt2() -> nn.Module:
    special = {"bos_token_id": 0, "eos_token_id": 0}
    return GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=50, n_positions=32, **special))


def _images() -> Batch:
    return torch.randn(16, 3, 8, 8)


def _ids() -> Batch:
    return {"input_ids": torch.randint(0, 50, (4, 20))}


def _padded() -> Batch:
    mask = torch.ones(4, 20, dtype=torch.long)
    mask[:2, 13:] = 0
    return _ids() | {"attention_mask": mask}


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Batch]]] = {
    "mlp": (mlp, lambda: torch.randn(64, 5)),
    "tail": (Tail, lambda: torch.randn(64, 5)),
    "convs": (convs, _images),
    "resnet": (resnet, _images),
    "hubert": (lambda: HubertModel(HUBERT), lambda: {"input_values": torch.randn(2, 4000)}),
    "bert": (small_bert, _ids),
    "bert, padded": (small_bert, _padded),
    "gpt2": (small_gpt2, _padded),
}


class Two:
    """Two unrelated models of a kind, batches, and what merging sees of them."""

    def __init__(self, name: str) -> None:
        build, batch = MODELS[name]
        torch.manual_seed(0)
        self.batches = [batch() for _ in range(3)]
        self.a, self.b = (self._built(build, seed) for seed in (1, 2))
        self.calibration = Calibration(Models.of((self.a, self.b)), Batches(self.batches))

    def _built(self, build: Callable[[], nn.Module], seed: int) -> nn.Module:
        torch.manual_seed(seed)
        model = build().train()
        call(model, self.batches[0])
        return spread(model, seed)

    def merged(self, **options: Any) -> nn.Module:
        model = copy.deepcopy(self.a)
        model.load_state_dict(pg.merge(self.a, self.b, data=self.batches, **options))
        return model

    def seen(self, model: nn.Module) -> dict[str, Tensor]:
        """Node -> the activations of a model on all batches, concatenated."""
        found: dict[str, list[Tensor]] = {}
        for program, inputs, _ in self.calibration.inputs(""):
            for node, value in self.calibration.runner(program, model.state_dict()).steps(inputs):
                if isinstance(value, Tensor):
                    found.setdefault(node.name, []).append(value)
        return {name: torch.cat(values) for name, values in found.items() if values[0].dim()}


def call(model: nn.Module, batch: Batch) -> Any:
    with torch.no_grad():
        return model(**batch) if isinstance(batch, dict) else model(batch)


def program_of(name: str) -> tuple[Program, Two]:
    two = Two(name)
    batch = two.batches[0]
    args, kwargs = ((), batch) if isinstance(batch, dict) else ((batch,), {})
    return capture(two.a, args, kwargs), two
