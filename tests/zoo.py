"""The one table of models: how to build each, and the order of the symmetry group that it must have.

`L(n)` is log10(n!). Orders are worked out by hand from the architecture, never read off the program.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import zoo_nets as nets
import zoo_transformers
from torch import nn
from torch.nn.utils import parametrizations
from zoo_rows import Case, L, Row


def net(model: Callable[[], nn.Module], *shapes: tuple[int, ...], **named: tuple[int, ...]) -> Callable[[], Case]:
    """A builder of a case with normal inputs of these shapes."""

    def build() -> Case:
        torch.manual_seed(0)
        kwargs = {name: torch.randn(shape) for name, shape in named.items()}
        return Case(model().eval(), tuple(torch.randn(shape) for shape in shapes), kwargs)

    return build


def chain(*layers: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """A sequential model, built anew on every call."""
    return lambda: nn.Sequential(*(layer() for layer in layers))


def ids(model: Callable[[], nn.Module], shape: tuple[int, ...], vocabulary: int) -> Callable[[], Case]:
    """A builder of a case with token ids."""

    def build() -> Case:
        torch.manual_seed(0)
        return Case(model().eval(), (torch.randint(vocabulary, shape),))

    return build


IMAGE, SEQUENCE, VECTOR = (2, 3, 8, 8), (2, 5, 3), (4, 5)


def images(*layers: Callable[[], nn.Module]) -> Callable[[], Case]:
    """A chain on images."""
    return net(chain(*layers), IMAGE)


def vectors(*layers: Callable[[], nn.Module]) -> Callable[[], Case]:
    """A chain on vectors."""
    return net(chain(*layers), VECTOR)


def attention(**options: Any) -> Callable[[], Case]:
    """One attention layer between an embedding and a head, so that its residual stream is free: + L(24)."""
    layers = (lambda: nn.Linear(3, 24), lambda: nets.Residual(nets.Attention(**options)), lambda: nn.Linear(24, 2))
    return net(chain(*layers), SEQUENCE)


def linear(*size: int) -> Callable[[], nn.Module]:
    return lambda: nn.Linear(*size)


def conv(*size: int, **options: Any) -> Callable[[], nn.Module]:
    return lambda: nn.Conv2d(*size, **options)


def head(channels: int) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*nets.pooled(channels))


def normed(channels: int) -> Callable[[], nn.Module]:
    return lambda: nn.BatchNorm2d(channels)


def do(function: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[], nn.Module]:
    return lambda: nets.Apply(function)


D, H, K = L(24), L(4), L(6)
HEADS = H + 4 * K + 4 * K  # Sym(H), and Sym(k) for QK and for VO of each head
RELU = nn.ReLU

PERCEPTRONS = (
    Row("mlp", vectors(linear(5, 12), RELU, linear(12, 9), nn.GELU, linear(9, 3)), L(12) + L(9)),
    Row("more than 8192 units", vectors(linear(5, 9000), RELU, linear(9000, 3)), L(9000)),
    Row("mlp, free output", vectors(linear(5, 12), RELU, linear(12, 3)), L(12) + L(3), outputs="free"),
    Row("prelu, dropout", vectors(linear(5, 12), lambda: nn.PReLU(12), nn.Dropout, linear(12, 3)), L(12)),
    Row(
        "residual mlp",
        vectors(
            linear(5, 16),
            lambda: nets.Residual(nn.LayerNorm(16), nn.Linear(16, 24), nn.GELU(), nn.Linear(24, 16)),
            lambda: nets.Residual(nn.Linear(16, 20), nn.Tanh(), nn.Linear(20, 16)),
            linear(16, 3),
        ),
        L(16) + L(24) + L(20),
    ),
    Row(
        "gated mlp, two linears",
        vectors(lambda: nets.Product(nn.Linear(5, 10), nn.Sequential(nn.Linear(5, 10), nn.SiLU())), linear(10, 3)),
        L(10),
    ),
    *(
        Row(
            f"gated mlp, {how}",
            vectors(linear(5, 6), lambda how=how: nets.FusedGate(how), linear(6, 2)),
            2 * L(6) + L(10),
        )
        for how in ("chunk", "glu", "every other")
    ),
    Row("x ++ x * x", vectors(linear(5, 7), do(lambda x: torch.cat([x, x * x], 1)), linear(14, 3)), L(7)),
    Row(
        "concat in cascade",
        vectors(
            linear(5, 8),
            lambda: nets.Concat(nn.Linear(8, 6), nn.ReLU()),
            lambda: nets.Concat(nn.Linear(14, 4), nn.Tanh()),
            RELU,
            linear(18, 5),
            RELU,
            linear(5, 2),
        ),
        L(8) + L(6) + L(4) + L(5),
    ),
    Row("weight norm", vectors(lambda: parametrizations.weight_norm(nn.Linear(5, 8)), RELU, linear(8, 3)), L(8)),
    Row("spectral norm", vectors(lambda: parametrizations.spectral_norm(nn.Linear(5, 8)), RELU, linear(8, 3)), L(8)),
    Row("written in place", net(nets.Written, (2, 3)), L(3) + L(5)),
    Row(
        "softmax over groups that are cut afterwards",
        vectors(
            linear(5, 6),
            do(lambda x: x.view(-1, 3, 2).softmax(-2).view(-1, 6)),
            do(lambda x: torch.cat([x[:, :4].tanh(), x[:, 4:]], 1)),
            linear(6, 3),
        ),
        3 * L(2),  # two groups for each of two units, and the units in all groups
    ),
    Row("module called twice", net(nets.Rolled, (2, 3)), L(9)),
    Row("tied embedding and head", ids(nets.TiedHead, (2, 5), 11), L(8) + L(12)),
    Row("softmax between linears", vectors(linear(5, 8), lambda: nn.Softmax(-1), linear(8, 3)), L(8)),
    Row("cumsum pins", vectors(linear(5, 8), do(lambda x: x.cumsum(1)), linear(8, 3)), 0.0),
    Row("sorted units", vectors(linear(5, 8), do(lambda x: x.sort(1).values), linear(8, 3)), L(8)),
    Row("positions of a sort pin", vectors(linear(5, 8), do(lambda x: x * x.argsort(1)), linear(8, 3)), 0.0),
    Row(
        "an operation without rule pins",
        vectors(linear(5, 8), do(lambda x: x @ torch.linalg.matrix_exp(x.T @ x / 9)), linear(8, 3)),
        0.0,
    ),
    Row("largest unit", vectors(linear(5, 8), RELU, linear(8, 9), do(lambda x: x.amax(1))), L(8) + L(9)),
    Row("index of the largest unit", vectors(linear(5, 8), RELU, linear(8, 9), do(lambda x: x.argmax(1))), L(8)),
    Row(
        "cosine similarity",
        vectors(linear(5, 8), do(lambda x: nn.functional.normalize(x) @ nn.functional.normalize(x).T)),
        L(8),
    ),
    Row("two inputs, two outputs", net(nets.TwoInTwoOut, (2, 3), y=(2, 4)), L(7) + L(9)),
    Row("bilinear", net(nets.Joined, (2, 3)), L(6) + L(7) + L(8)),
    Row("mixer", net(nets.Mixer, SEQUENCE), L(8) + L(6) + L(12)),
    Row("learned queries", net(nets.Queries, SEQUENCE), L(5) + 2 * L(8)),
    Row("soft mixture of experts", vectors(linear(5, 6), nets.Experts, linear(6, 2)), 2 * L(6) + L(3) + 3 * L(5)),
    Row("state space", net(nets.StateSpace, (2, 4, 4)), L(6) + L(3)),
    *(
        Row(
            f"{kind.__name__}{' both ways' * both}, {layers} layers",
            net(lambda k=kind, n=layers, both=both: nets.Recurrent(k, num_layers=n, bidirectional=both), SEQUENCE),
            L(5) + layers * (1 + both) * L(6),
        )
        for kind in (nn.LSTM, nn.GRU, nn.RNN)
        for layers, both in ((1, False), (2, True))
    ),
    Row("LSTM with projection", net(lambda: Projected(), SEQUENCE), L(5) + L(6) + L(4)),
)


class Projected(nets.Recurrent):
    """An LSTM whose hidden state is projected."""

    def __init__(self) -> None:
        super().__init__(nn.LSTM, proj_size=4)
        self.head = nn.Linear(4, 2)


SHUFFLE = (conv(3, 8, 3), conv(8, 8, 3, groups=2), lambda: nn.ChannelShuffle(2), conv(8, 8, 1, groups=2), RELU, head(8))
SHUFFLED = (conv(8, 4, 1, groups=2), lambda: nn.ChannelShuffle(2), RELU, conv(4, 8, 1, groups=2))
CONVOLUTIONS = (
    Row("conv, BatchNorm", images(conv(3, 8, 3), normed(8), RELU, conv(8, 6, 3), normed(6), head(6)), L(8) + L(6)),
    Row(
        "residual cnn",
        images(
            conv(3, 8, 3),
            lambda: nets.basic_block(8, 6),
            RELU,
            lambda: nets.basic_block(8, 5),
            conv(8, 10, 1, stride=2),
            normed(10),
            head(10),
        ),
        L(8) + L(6) + L(5) + L(10),
    ),
    Row("one channel", images(conv(3, 1, 3), normed(1), conv(1, 4, 3), RELU, head(4)), L(4)),
    Row("bias with dims of size 1", images(conv(3, 8, 3, bias=False), lambda: nets.Bias(1, 8, 1, 1), head(8)), L(8)),
    Row("flatten with space", images(conv(3, 8, 3), RELU, nn.Flatten, linear(288, 5), RELU, linear(5, 2)), L(8) + L(5)),
    Row(
        "GroupNorm",
        images(conv(3, 12, 3), lambda: nn.GroupNorm(4, 12), RELU, conv(12, 5, 3), head(5)),
        L(4) + 4 * L(3) + L(5),
    ),
    Row(
        "InstanceNorm",
        images(conv(3, 6, 3), lambda: nn.InstanceNorm2d(6, affine=True, track_running_stats=True), RELU, head(6)),
        L(6),
    ),
    Row(
        "grouped conv",
        images(conv(3, 12, 3), RELU, conv(12, 8, 3, groups=4), RELU, conv(8, 5, 1), head(5)),
        L(4) + 4 * L(3) + 4 * L(2) + L(5),
    ),
    Row(
        "depthwise conv",
        images(conv(3, 12, 3), conv(12, 12, 3, groups=12), RELU, conv(12, 24, 3, groups=12), head(24)),
        L(12) + 12 * L(2),
    ),
    Row(
        "transposed conv",
        images(conv(3, 6, 3), RELU, lambda: nn.ConvTranspose2d(6, 8, 2, stride=2, groups=2), RELU, head(8)),
        L(2) + 2 * L(3) + 2 * L(4),
    ),
    Row("channel shuffle", images(*SHUFFLE), 2 * L(4) + 2 * L(2) + 4 * L(2) + 2 * L(4)),
    Row(
        "channel shuffle, residual",
        images(conv(3, 8, 3), lambda: nets.Residual(*(layer() for layer in SHUFFLED)), RELU, head(8)),
        L(2) + 2 * L(4),  # the two groups of the first convolution are those of the second
    ),
    Row(
        "pixel shuffle",
        images(conv(3, 20, 3), lambda: nn.PixelShuffle(2), conv(5, 4, 3), RELU, head(4)),
        L(5) + L(4),
    ),
    Row(
        "pixel unshuffle",
        images(conv(3, 5, 3, padding=1), lambda: nn.PixelUnshuffle(2), conv(20, 4, 1), RELU, head(4)),
        L(5) + L(4),
    ),
    Row(
        "pixel shuffle and back",
        images(conv(3, 20, 1), lambda: nn.PixelShuffle(2), RELU, lambda: nn.PixelUnshuffle(2), head(20)),
        L(20),
    ),
    Row("squeeze and excitation", images(conv(3, 8, 3), lambda: nets.Gates(8, 4), head(8)), L(8) + L(4)),
    Row(
        "DenseNet",
        images(
            conv(3, 8, 3),
            lambda: nets.Concat(nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1)),
            lambda: nets.Concat(nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 4, 3, padding=1)),
            normed(16),
            head(16),
        ),
        L(8) + 2 * L(4),
    ),
    Row("U-Net", net(nets.UNet, (1, 2, 8, 8)), L(6) + L(9) + L(5)),
    Row(
        "pooling, upsampling",
        images(
            conv(3, 6, 3),
            lambda: nn.MaxPool2d(2),
            lambda: nn.Upsample(scale_factor=2),
            lambda: nn.AvgPool2d(2),
            head(6),
        ),
        L(6),
    ),
    Row(
        "positional conv",
        net(chain(linear(3, 12), lambda: nets.PositionalConvolution(12, 4), linear(12, 2)), SEQUENCE),
        L(4) + 4 * L(3),
    ),
)

ATTENTIONS = (
    *(
        Row(f"attention, {layout}", attention(layout=layout), D + HEADS)
        for layout in ("separate", "thirds", "3Hk", "H3k", "k3H")
    ),
    Row("attention, einsum", attention(by_einsum=True), D + HEADS),
    *(
        Row(f"grouped queries, {layout}", attention(kv_heads=2, layout=layout), D + L(2) + 2 * L(2) + 4 * K)
        for layout in ("separate", "slices", "Krk")
    ),
    Row("multi-query", attention(kv_heads=1), D + H + 2 * K),
    Row("rotary, half", attention(rotary="half"), D + H + 4 * K),
    Row("rotary, pairs", attention(rotary="pairs"), D + H + 4 * K),
    Row("rotary, partial", attention(rotary="half", rotated=2), D + H + 4 * L(4) + 4 * K),
    Row("rotary, grouped queries", attention(rotary="half", kv_heads=2), D + L(2) + 2 * L(2) + 2 * K),
    Row(
        "rotary, half, one view",
        attention(rotary="half", layout="3Hk"),
        D + H + 4 * K,
    ),
    Row("rotary, pairs, one view", attention(rotary="pairs", layout="3Hk"), D + H + 4 * K),
    Row(
        "dtype of another tensor",
        vectors(linear(5, 8), do(lambda x: x[:, :4].type_as(x[:, 4:]) + x[:, 4:].tanh()), linear(4, 3)),
        L(4),
    ),
    Row(
        "mean beside maximum",
        images(conv(3, 8, 3), lambda: nets.Statistics(1, nn.Conv2d(2, 1, 3, padding=1)), head(8)),
        L(8),
    ),
    Row(
        "constants side by side",
        vectors(linear(5, 6), do(lambda x: x + torch.cat([torch.ones(4), torch.zeros(2)])), linear(6, 3)),
        L(4) + L(2),
    ),
    Row(
        "a border around a constant",
        vectors(linear(5, 6), do(lambda x: x + nn.functional.pad(torch.ones(4), (0, 2))), linear(6, 3)),
        L(4) + L(2),
    ),
    Row("a constant that is the same everywhere", vectors(linear(5, 8), lambda: nets.Shifted(8), linear(8, 3)), L(8)),
    Row("QK-norm", attention(qk_norm=True), D + H + K + 4 * K),
    Row("ALiBi", attention(bias="alibi"), D + 8 * K),
    Row("position bias table", attention(bias="table"), D + HEADS),
    Row("shared position bias table", net(nets.SharedBias, SEQUENCE), D + H + 16 * K),
    Row("nn.MultiheadAttention", net(lambda: SelfAttention(24, 4), (2, 5, 24)), HEADS),
    Row(
        "nn.TransformerEncoderLayer",
        net(
            chain(linear(3, 24), lambda: nn.TransformerEncoderLayer(24, 4, 20, batch_first=True), linear(24, 2)),
            SEQUENCE,
        ),
        D + HEADS + L(20),
    ),
    Row(
        "nn.Transformer, causal",
        net(nets.EncoderDecoder, SEQUENCE),
        L(16) + 3 * (L(4) + 8 * L(4)) + 2 * L(20),
        slow=True,
    ),
    Row(
        "heads as modules",
        net(chain(linear(3, 8), nets.HeadModules, linear(24, 2)), SEQUENCE),
        L(8) + 3 * (L(8) + 2 * L(4)),
    ),
    Row("tokens", net(nets.Tokens, (1, 2, 8, 8)), D + HEADS),
    Row("windows", net(nets.Windows, (1, 4, 4, 3)), D + HEADS + L(7)),
)


class SelfAttention(nn.MultiheadAttention):
    """nn.MultiheadAttention of a sequence with itself."""

    def __init__(self, d: int, heads: int) -> None:
        super().__init__(d, heads, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x, x, x, need_weights=False)[0]


ROWS: tuple[Row, ...] = (*PERCEPTRONS, *CONVOLUTIONS, *ATTENTIONS, *zoo_transformers.ROWS)
