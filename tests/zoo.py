"""The one table of models: how to build each, and the order of the symmetry group that it must have.

`L(n)` is log10(n!). Orders are worked out by hand from the architecture, never read off the program.
"""

from __future__ import annotations

import torch
import zoo_attention_nets as attention_nets
import zoo_experts
import zoo_nets as nets
import zoo_transformers
from torch import nn
from torch.nn.utils import parametrizations
from zoo_attentions import ATTENTIONS
from zoo_build import RELU, SEQUENCE, chain, conv, do, head, ids, images, linear, net, normed, vectors
from zoo_rows import L, Row

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
    Row("mixer", net(attention_nets.Mixer, SEQUENCE), L(8) + L(6) + L(12)),
    Row("learned queries", net(attention_nets.Queries, SEQUENCE), L(5) + 2 * L(8)),
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

ROWS: tuple[Row, ...] = (*PERCEPTRONS, *CONVOLUTIONS, *ATTENTIONS, *zoo_transformers.ROWS, *zoo_experts.ROWS)
