"""Small networks out of plain modules: one construct each, for the table in `zoo`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations


class Apply(nn.Module):
    """A function of a tensor as a module."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Residual(nn.Module):
    """x + f(x)."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.inner = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class Concat(nn.Module):
    """x ++ f(x) along a dimension."""

    def __init__(self, *layers: nn.Module, dim: int = 1) -> None:
        super().__init__()
        self.inner, self.dim = nn.Sequential(*layers), dim

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.inner(x)], self.dim)


class Product(nn.Module):
    """f(x) ⊙ g(x)."""

    def __init__(self, f: nn.Module, g: nn.Module) -> None:
        super().__init__()
        self.f, self.g = f, g

    def forward(self, x: Tensor) -> Tensor:
        return self.f(x) * self.g(x)


class Statistics(nn.Module):
    """Gates units by their mean and their maximum, which never change places."""

    def __init__(self, dim: int, mix: nn.Module) -> None:
        super().__init__()
        self.dim, self.mix = dim, mix

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([x.mean(self.dim, keepdim=True), x.amax(self.dim, keepdim=True)], self.dim)
        return x * self.mix(both).sigmoid()


class Shifted(nn.Module):
    """Adds a constant that is no part of the state dict, the same for every unit."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.register_buffer("shift", torch.full((d,), 0.5), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.shift


class Bias(nn.Module):
    """x + a bare parameter of any shape."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(shape))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias


class Scale(nn.Module):
    """x times a bare parameter (LayerScale)."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.randn(shape))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


def pooled(channels: int, classes: int = 3) -> list[nn.Module]:
    """A classifier head over averaged positions."""
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]


def basic_block(width: int, inner: int) -> nn.Module:
    """conv, BatchNorm, ReLU, conv, BatchNorm beside a skip."""
    return Residual(
        nn.Conv2d(width, inner, 3, padding=1, bias=False),
        nn.BatchNorm2d(inner),
        nn.ReLU(),
        nn.Conv2d(inner, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
    )


class UNet(nn.Module):
    """Down, up, and a skip by concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.down = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 9, 3, stride=2, padding=1)
        self.up, self.leave = nn.ConvTranspose2d(9, 5, 2, stride=2), nn.Conv2d(11, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        skip = F.relu(self.enter(x))
        return self.leave(torch.cat([F.relu(self.up(F.relu(self.down(skip)))), skip], 1))


class FusedGate(nn.Module):
    """A gated MLP whose gate and value come from one linear: as halves, by `glu`, or as every other unit."""

    def __init__(self, how: str, d: int = 6, f: int = 10) -> None:
        super().__init__()
        self.how, self.up, self.down = how, nn.Linear(d, 2 * f), nn.Linear(f, d)

    def forward(self, x: Tensor) -> Tensor:
        y = self.up(x)
        if self.how == "glu":
            return self.down(F.glu(y, -1))
        gate, value = y.chunk(2, -1) if self.how == "chunk" else (y[..., ::2], y[..., 1::2])
        return self.down(F.silu(gate) * value)


class TiedHead(nn.Module):
    """An embedding that is the head as well."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.inner = Residual(nn.Linear(8, 12), nn.GELU(), nn.Linear(12, 8))
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.inner(self.embed(ids)))


class Experts(nn.Module):
    """A soft mixture of experts in stacked tensors."""

    def __init__(self, n: int = 3, d: int = 6, f: int = 5) -> None:
        super().__init__()
        self.router = nn.Linear(d, n)
        self.up, self.down = nn.Parameter(torch.randn(n, d, f)), nn.Parameter(torch.randn(n, f, d))

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.einsum("bd,edf->bef", x, self.up).relu()
        return torch.einsum("bef,efd,be->bd", hidden, self.down, self.router(x).softmax(-1))


class TwoInTwoOut(nn.Module):
    """Two inputs, a dict of two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 7), nn.Linear(4, 7)
        self.left, self.right = nn.Linear(7, 2), nn.Linear(7, 9)
        self.last = nn.Linear(9, 2)

    def forward(self, x: Tensor, *, y: Tensor) -> dict[str, Tensor]:
        joined = torch.tanh(self.a(x) * self.b(y))
        return {"left": self.left(joined), "right": self.last(torch.tanh(self.right(joined)))}


class Joined(nn.Module):
    """Two branches into nn.Bilinear."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 6), nn.Linear(3, 7)
        self.join, self.head = nn.Bilinear(6, 7, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.join(torch.tanh(self.a(x)), torch.tanh(self.b(x)))))


class Recurrent(nn.Module):
    """A recurrent net over positions, between linears."""

    def __init__(self, kind: type[nn.RNNBase], hidden: int = 6, **options) -> None:
        super().__init__()
        self.enter = nn.Linear(3, 5)
        self.body = kind(5, hidden, batch_first=True, **options)
        self.head = nn.Linear(hidden * (2 if options.get("bidirectional") else 1), 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.enter(x))[0])


class PositionalConvolution(nn.Module):
    """x + a weight-normed grouped convolution of x."""

    def __init__(self, d: int, groups: int) -> None:
        super().__init__()
        self.conv = parametrizations.weight_norm(nn.Conv1d(d, d, 3, padding=1, groups=groups), dim=2)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.gelu(self.conv(x.transpose(1, 2)).transpose(1, 2))


class Gates(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, inner, 1), nn.Conv2d(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3), keepdim=True)))))


class Written(nn.Module):
    """Two halves written into one tensor, and an activation in place."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(3, 3), nn.Linear(3, 5), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = x.new_zeros(x.shape[0], 8)
        y[:, :3] = self.a(x)
        y[:, 3:].copy_(self.b(x))
        y.tanh_()
        return self.head(y * y.sum(1, keepdim=True))


class Rolled(nn.Module):
    """One linear called again and again."""

    def __init__(self, d: int = 9) -> None:
        super().__init__()
        self.enter, self.step, self.head = nn.Linear(3, d), nn.Linear(d, d), nn.Linear(d, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        for _ in range(2):
            x = torch.tanh(self.step(x))
        return self.head(x)


class StateSpace(nn.Module):
    """A diagonal state-space recurrence with input-dependent steps (Mamba), unrolled over a short sequence."""

    def __init__(self, d: int = 4, inner: int = 6, n: int = 3) -> None:
        super().__init__()
        self.up, self.dt = nn.Linear(d, 2 * inner), nn.Linear(inner, inner)
        self.to_b, self.to_c = nn.Linear(inner, n), nn.Linear(inner, n)
        self.log_a, self.skip = nn.Parameter(torch.randn(inner, n)), nn.Parameter(torch.randn(inner))
        self.conv = nn.Conv1d(inner, inner, 2, padding=1, groups=inner)
        self.down = nn.Linear(inner, d)

    def forward(self, x: Tensor) -> Tensor:
        x, gate = self.up(x).chunk(2, -1)
        x = F.silu(self.conv(x.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2))
        dt, b, c = F.softplus(self.dt(x)), self.to_b(x), self.to_c(x)
        decay = torch.exp(dt[..., None] * -torch.exp(self.log_a))
        drive = dt[..., None] * b[:, :, None] * x[..., None]
        state, rows = torch.zeros_like(drive[:, 0]), []
        for t in range(x.shape[1]):
            state = decay[:, t] * state + drive[:, t]
            rows.append((state * c[:, t, None]).sum(-1))
        return self.down((torch.stack(rows, 1) + self.skip * x) * F.silu(gate))
