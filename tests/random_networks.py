"""Random networks from a seed: every construct that the rules know, put together by chance.

A network is a chain of blocks on a sequence (batch, position, width) or an image (batch, channel, height, width); a
block may change the width. Every block is drawn with its sizes, and now and then a block is used a second time.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
import torch.nn.functional as F
import zoo_attention_nets as attention_nets
import zoo_nets as nets
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from zoo_rows import Case

Block = Callable[[random.Random, int], tuple[nn.Module, int]]
WIDTHS = (4, 6, 8, 12, 16)
ACTIVATIONS = (nn.ReLU, nn.GELU, nn.Tanh, nn.SiLU, nn.Sigmoid, nn.Identity)


def activation(rng: random.Random) -> nn.Module:
    return rng.choice(ACTIVATIONS)()


def divisor(rng: random.Random, n: int) -> int:
    return rng.choice([k for k in range(1, n + 1) if n % k == 0])


def dense(rng: random.Random, d: int) -> tuple[nn.Module, int]:
    n = rng.choice(WIDTHS)
    layer: nn.Module = nn.Linear(d, n, bias=rng.random() < 0.7)
    if rng.random() < 0.2:
        layer = parametrizations.weight_norm(layer, dim=rng.choice([0, 1]))
    return nn.Sequential(layer, activation(rng)), n


def perceptron(rng: random.Random, d: int) -> tuple[nn.Module, int]:
    f = rng.choice(WIDTHS)
    layers = [nn.Linear(d, f), activation(rng), nn.Linear(f, d)]
    return nets.Residual(*([rng.choice([nn.LayerNorm, nn.RMSNorm])(d)] * (rng.random() < 0.6)), *layers), d


def gated(rng: random.Random, d: int) -> tuple[nn.Module, int]:
    how = rng.choice(["chunk", "glu", "every other"])
    return nets.Residual(nets.FusedGate(how, d, rng.choice(WIDTHS))), d


def attention(rng: random.Random, d: int) -> tuple[nn.Module, int]:
    heads, k = rng.choice([1, 2, 3, 4]), rng.choice([2, 4, 6])
    kv = divisor(rng, heads)
    layouts = ["separate", "slices", "Krk"] if kv != heads else ["separate", "thirds", "3Hk", "H3k", "k3H", "Krk"]
    rotary = rng.choice(["", "", "half", "pairs"])
    layer = attention_nets.Attention(
        d,
        heads,
        k,
        kv_heads=kv,
        layout=rng.choice(layouts),
        rotary=rotary,
        rotated=rng.choice([2, k]),
        qk_norm=rng.random() < 0.2,
        bias=rng.choice(["", "", "table", "alibi"]),
        by_einsum=rng.random() < 0.3,
    )
    return (nets.Residual(layer) if rng.random() < 0.8 else layer), d


def joined(rng: random.Random, d: int) -> tuple[nn.Module, int]:
    n = rng.choice(WIDTHS)
    return nets.Concat(nn.Linear(d, n), activation(rng), dim=-1), d + n


def regrouped(rng: random.Random, d: int) -> tuple[nn.Module, int]:
    """A view into groups, something on the parts, and the view back."""
    g = divisor(rng, d)
    inner = rng.choice(
        [
            lambda y: y.transpose(-1, -2),
            lambda y: y.softmax(-1),
            lambda y: y.softmax(-2),
            lambda y: y * y.mean(-1, keepdim=True),
            lambda y: y + y.sum(-2, keepdim=True),
            lambda y: y.flip(-1),
            lambda y: F.layer_norm(y, y.shape[-1:]),
            lambda y: y.cumsum(-2),
            lambda y: torch.stack([y[..., i, :] for i in range(y.shape[-2])], -1).transpose(-1, -2),
        ]
    )
    return nets.Apply(lambda x: inner(x.reshape(*x.shape[:-1], g, -1)).reshape(x.shape)), d


def cut(rng: random.Random, d: int) -> tuple[nn.Module, int]:
    """Segments treated apart, then put together in some order."""
    at = rng.randrange(1, d)
    how = rng.choice(
        [
            lambda a, b: torch.cat([b, a], -1),
            lambda a, b: torch.cat([a.relu(), b], -1),
            lambda a, b: torch.cat([a * b.mean(-1, keepdim=True), b], -1),
            lambda a, b: torch.cat([a, b, a * a], -1),
        ]
    )
    layer = nets.Apply(lambda x: how(x[..., :at], x[..., at:]))
    return layer, layer(torch.zeros(1, d)).shape[-1]


def constants(rng: random.Random, d: int) -> tuple[nn.Module, int]:
    """Something the same everywhere beside something else the same everywhere, or in a border."""
    at = rng.randrange(1, d)
    how = rng.choice(
        [
            lambda x: x + torch.cat([torch.ones(at), torch.zeros(d - at)]).to(x),
            lambda x: x * F.pad(torch.ones(at), (0, d - at), value=0.5).to(x),
            lambda x: x * torch.cat([x[..., :1] * 0 + 1, x[..., :1]], -1).repeat_interleave(d, -1)[..., :d],
        ]
    )
    return nets.Apply(how), d


def gauged(rng: random.Random, d: int) -> tuple[nn.Module, int]:
    return nets.Statistics(-1, nn.Linear(2, rng.choice([1, d]))), d


def surveyed(rng: random.Random, c: int) -> tuple[nn.Module, int]:
    return nets.Statistics(1, nn.Conv2d(2, rng.choice([1, c]), 3, padding=1)), c


def bare(rng: random.Random, d: int) -> tuple[nn.Module, int]:
    return rng.choice([nets.Bias, nets.Scale])(*rng.choice([(d,), (1, d), (1, 1, d)])), d


def recurrent(rng: random.Random, d: int) -> tuple[nn.Module, int]:
    h, both = rng.choice([3, 4, 6]), rng.random() < 0.4
    kind = rng.choice([nn.LSTM, nn.GRU, nn.RNN])
    return First(kind(d, h, rng.choice([1, 2]), batch_first=True, bidirectional=both)), h * (1 + both)


def mixed(rng: random.Random, d: int) -> tuple[nn.Module, int]:
    return nets.PositionalConvolution(d, divisor(rng, d)), d


def repeated(rng: random.Random, d: int) -> tuple[nn.Module, int]:
    """One module, called twice."""
    shared = nn.Sequential(nn.Linear(d, d), activation(rng))
    return nn.Sequential(shared, rng.choice([nn.Identity(), nn.LayerNorm(d)]), shared), d


class First(nn.Module):
    """The first result of a module."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)[0]


def conv(rng: random.Random, c: int) -> tuple[nn.Module, int]:
    n, groups = rng.choice(WIDTHS), 1
    if rng.random() < 0.4:
        groups = divisor(rng, c)
        n = groups * rng.choice([1, 2, 3])
    kernel = rng.choice([1, 3])
    kind = rng.choice([nn.Conv2d, nn.Conv2d, nn.ConvTranspose2d])
    return nn.Sequential(kind(c, n, kernel, padding=kernel // 2, groups=groups), activation(rng)), n


def norm(rng: random.Random, c: int) -> tuple[nn.Module, int]:
    kinds = [nn.BatchNorm2d(c), nn.GroupNorm(divisor(rng, c), c), nn.InstanceNorm2d(c, affine=True)]
    return rng.choice(kinds), c


def block(rng: random.Random, c: int) -> tuple[nn.Module, int]:
    return nets.basic_block(c, rng.choice(WIDTHS)), c


def grown(rng: random.Random, c: int) -> tuple[nn.Module, int]:
    n = rng.choice([2, 4])
    return nets.Concat(nn.Conv2d(c, n, 3, padding=1), activation(rng)), c + n


def squeezed(rng: random.Random, c: int) -> tuple[nn.Module, int]:
    return nets.Gates(c, rng.choice([2, 3])), c


class Paired(nn.Module):
    """An equation over the last axis as a product p q, with a weight that has the axis more than once."""

    def __init__(self, equation: str, p: int, q: int, r: int) -> None:
        super().__init__()
        sizes = {"p": p, "q": q, "x": p, "y": q, "r": r}
        self.equation, self.p, self.q = equation, p, q
        self.weight = nn.Parameter(torch.randn([sizes[letter] for letter in equation.split(",")[1].split("->")[0]]))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.einsum(self.equation, x.unflatten(-1, (self.p, self.q)), self.weight)
        return torch.tanh(y.flatten(x.dim() - 1))


def paired(rng: random.Random, d: int) -> tuple[nn.Module, int]:
    p, r = divisor(rng, d), rng.choice([3, 5])
    if rng.random() < 0.4:
        return nets.Residual(Paired("...pq,pqxy->...xy", p, d // p, r)), d
    equation = rng.choice(["...pq,pqr->...r", "...pq,ppqr->...r", "...pq,pqpr->...r", "...pq,pqqr->...r"])
    return Paired(equation, p, d // p, r), r


def shuffled(rng: random.Random, c: int) -> tuple[nn.Module, int]:
    if c % 4 == 0 and rng.random() < 0.4:
        inner = c * rng.choice([1, 2]) // 2
        ways = [nn.Conv2d(c, inner, 1, groups=2), nn.ChannelShuffle(2), nn.Conv2d(inner, c, 1, groups=2)]
        return nets.Residual(ways[0], ways[1], activation(rng), ways[2]), c
    if c % 4 == 0 and rng.random() < 0.5:
        return nn.Sequential(nn.PixelShuffle(2), activation(rng), nn.PixelUnshuffle(2)), c
    return nn.ChannelShuffle(divisor(rng, c)), c


def gathered(rng: random.Random, c: int) -> tuple[nn.Module, int]:
    n = rng.choice(WIDTHS)
    return nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * c, n, 1), nn.Upsample(scale_factor=2)), n


SEQUENCE: tuple[Block, ...] = (
    dense, perceptron, gated, attention, joined, regrouped, cut, bare, recurrent, mixed, repeated,
    constants, gauged, paired,
)  # fmt: skip
IMAGE: tuple[Block, ...] = (conv, norm, block, grown, squeezed, shuffled, gathered, surveyed)


def build(seed: int) -> Case:
    """The network of this seed, with inputs."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    images = rng.random() < 0.35
    width = rng.choice(WIDTHS)
    layers: list[nn.Module] = [nn.Conv2d(2, width, 3, padding=1) if images else nn.Linear(3, width)]
    for _ in range(rng.randrange(2, 6)):
        layer, width = rng.choice(IMAGE if images else SEQUENCE)(rng, width)
        layers.append(layer)
    if images:
        layers += rng.choice([nets.pooled(width, 2), [nn.Flatten(), nn.Linear(16 * width, 2)]])
        return Case(nn.Sequential(*layers).eval(), (torch.randn(2, 2, 4, 4),))
    layers += rng.choice([[nn.Linear(width, 2)], [nets.Apply(lambda x: x.mean(1)), nn.Linear(width, 2)]])
    return Case(nn.Sequential(*layers).eval(), (torch.randn(2, 5, 3),))
