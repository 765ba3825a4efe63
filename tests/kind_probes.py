"""Functions of hidden units between linear layers, one thing in each that a change of basis has to respect.

`x` and `z` are [2, 6, 8], made by a linear layer each; what is returned is read by a third. `w` and `v` are parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

D = 8
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Probe:
    """A function of (x, z, *weights) with the shapes of its weights; `ones` are the shapes of weights that are 1."""

    name: str
    function: Callable[..., Tensor]
    weights: tuple[Shape, ...] = ()
    ones: tuple[Shape, ...] = ()


class Probed(nn.Module):
    """The function of a probe between linear layers."""

    def __init__(self, probe: Probe) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, D), nn.Linear(5, D)
        self.weights = nn.ParameterList(
            [*(torch.randn(shape) for shape in probe.weights), *(torch.ones(shape) for shape in probe.ones)]
        )
        self.function = probe.function
        with torch.no_grad():
            made = self.inner(torch.randn(2, 6, 5))
        self.last = nn.Linear(made.shape[-1], 3) if made.is_floating_point() else nn.Identity()

    def inner(self, x: Tensor) -> Tensor:
        return self.function(self.first(x), self.second(x), *self.weights)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.inner(x))


def after(change: Callable[[Tensor], Any], y: Tensor) -> Tensor:
    """A tensor once something has been done to it in place."""
    change(y)
    return y


def heads(x: Tensor) -> Tensor:
    return x.unflatten(-1, (2, 4))


def rms(x: Tensor, dim: int = -1) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(dim, keepdim=True) + 1e-5)


def rotated(x: Tensor) -> Tensor:
    angles = torch.arange(6.0).to(x)[:, None]
    return x * angles.cos() + torch.cat([-x[..., 4:], x[..., :4]], -1) * angles.sin()


POINTWISE = (
    Probe("absolute value", lambda x, z: x.abs()),
    Probe("absolute value times itself", lambda x, z: x.abs() * x),
    Probe("square", lambda x, z: x * x),
    Probe("cube", lambda x, z: x**3),
    Probe("square root of a square", lambda x, z: (x * x).sqrt() + z),
    Probe("reciprocal", lambda x, z: x.pow(-1) * z),
    Probe("sign", lambda x, z: x.sign() * z),
    Probe("sign times itself", lambda x, z: x.sign() * x),
    Probe("saturation by division", lambda x, z: x / (x.abs() + 1)),
    Probe("rounded", lambda x, z: x.round() + x),
    Probe("clamped from below", lambda x, z: x.clamp(min=0) * z),
    Probe("clamped", lambda x, z: x.clamp(-1, 1)),
    Probe("relu6", lambda x, z: F.relu6(x)),
    Probe("maximum", lambda x, z: torch.maximum(x, z)),
    Probe("both rectified sides", lambda x, z: torch.cat([x.relu(), (-x).relu()], -1)),
    Probe("leaky both ways", lambda x, z: F.leaky_relu(x, 0.2) + F.leaky_relu(-x, 0.2)),
    Probe("hypotenuse", lambda x, z: torch.hypot(x, z)),
    Probe("angle", lambda x, z: torch.atan2(x, z)),
    Probe("sign of another", lambda x, z: torch.copysign(x, z)),
    Probe("interpolated", lambda x, z, w: torch.lerp(x, z, w.sigmoid()), ((D,),)),
    Probe("product added", lambda x, z, w: torch.addcmul(x, z, w), ((D,),)),
    Probe("complex modulus", lambda x, z: torch.complex(x, z).abs()),
)

TYPES = (
    Probe("whole numbers", lambda x, z: (x * 3).to(torch.int64).to(x.dtype)),
    Probe("whole numbers as output", lambda x, z: (x * 3).to(torch.int64)),
    Probe("sum of whole numbers", lambda x, z: (x * 3).long().sum(-1, keepdim=True).to(x.dtype) * x),
    Probe("truth values", lambda x, z: (x > 0).to(x.dtype) * x),
    Probe("not zero", lambda x, z: x.bool().to(x.dtype) * z),
    Probe("places of maxima", lambda x, z: F.max_pool1d(x.transpose(1, 2), 2, return_indices=True)[1]),
    Probe("comparison", lambda x, z: (x >= 0) & (z > 0)),
)

CHOICES = (
    Probe("where", lambda x, z: torch.where(x > 0, x, z)),
    Probe("where another is positive", lambda x, z: torch.where(z > 0, x, 0.0)),
    Probe("where, ones", lambda x, z: torch.where(z.sum(-1, keepdim=True) > 0, x, torch.ones_like(x))),
    Probe("where, zeros", lambda x, z: torch.where(z.sum(-1, keepdim=True) > 0, x, torch.zeros_like(x))),
    Probe("masked with zero", lambda x, z: x.masked_fill(z.sum(-1, keepdim=True) > 0, 0.0)),
    Probe("masked with one", lambda x, z: x.masked_fill(z.sum(-1, keepdim=True) > 0, 1.0)),
    Probe("masked with a parameter", lambda x, z, w: x.masked_fill(z.sum(-1, keepdim=True) > 0, w), ((),)),
    Probe("a token put in", lambda x, z, w: x.index_put((z.sum(-1) > 0,), w), ((D,),)),
    Probe("dropout that is never off", lambda x, z: F.dropout(x, 0.5, True)),
    Probe("attention with dropout", lambda x, z: F.scaled_dot_product_attention(x, z, z, dropout_p=0.3)),
)

CONSTANTS = (
    Probe("one added", lambda x, z: (x + 1) * z),
    Probe("from one", lambda x, z: 1 - x),
    Probe("ones added", lambda x, z: x + torch.ones(D).to(x)),
    Probe("numbers added", lambda x, z: x + torch.arange(D).to(x)),
    Probe("numbers multiplied", lambda x, z: x * torch.arange(1, D + 1).to(x)),
    Probe("a mean added", lambda x, z: x + z.mean(-1, keepdim=True)),
    Probe("a mean multiplied", lambda x, z: x * z.mean(-1, keepdim=True)),
    Probe("padded with ones", lambda x, z: F.pad(x, (1, 2), value=1.0)),
    Probe("padded with zeros", lambda x, z: F.pad(x, (1, 2))),
    Probe("beside ones", lambda x, z: torch.cat([x, torch.ones(2, 6, 3).to(x)], -1)),
    Probe("one segment shifted", lambda x, z: torch.cat([x[..., :4] + 1, x[..., 4:]], -1)),
    Probe("a scalar parameter", lambda x, z, w: x * w, ((1,),)),
)

IN_PLACE = (
    Probe("a chain in place", lambda x, z: x.clone().mul_(z).add_(x)),
    Probe("a product in place", lambda x, z: after(lambda y: y.mul_(z), x.clone())),
    Probe("a product in place of a view", lambda x, z: after(lambda y: heads(y).mul_(heads(z)), x.clone())),
    Probe("a view from before", lambda x, z: (lambda y, seen: (y.mul_(z), seen)[1])(y := x.clone(), y.view(2, 6, D))),
    Probe("read before and after", lambda x, z: (lambda y, r: torch.cat([y.mul_(z), r], -1))(y := x.clone(), y.tanh())),
    Probe("absolute values of some", lambda x, z: after(lambda y: y[..., :3].abs_(), x.clone())),
    Probe("one added to some", lambda x, z: after(lambda y: y[..., :3].add_(1), x.clone())),
    Probe("some filled", lambda x, z: after(lambda y: y[..., :3].fill_(1.0), x.clone())),
    Probe("some written", lambda x, z: after(lambda y: y[..., :3].copy_(z[..., :3]), x.clone())),
    Probe("some positions shifted", lambda x, z: after(lambda y: y[:, :3].add_(1), x.clone())),
    Probe("added to ones", lambda x, z: after(lambda y: y.add_(z), torch.ones_like(x))),
    Probe("added to zeros", lambda x, z: after(lambda y: y.add_(z), torch.zeros_like(x)) * x),
    Probe("written over ones", lambda x, z: after(lambda y: y.copy_(x * z), torch.ones_like(x))),
    Probe("positions of ones written", lambda x, z: after(lambda y: y[:, :3].copy_(x[:, :3]), torch.ones_like(x))),
    Probe("scattered into ones", lambda x, z: torch.ones_like(x).scatter_add_(1, torch.zeros(2, 6, D).long(), x)),
)

PRODUCTS = (
    Probe("three factors", lambda x, z, w: x * w * z, ((D,),)),
    Probe("one scale twice", lambda x, z, w: x * w + z * w, ((D,),)),
    Probe("one scale in two ways", lambda x, z, w: torch.tanh(x * w) + torch.relu(z * w), ((D,),)),
    Probe("a square of a scale", lambda x, z, w: x * w**2, ((D,),)),
    Probe("inner product", lambda x, z: (x * z).sum(-1, keepdim=True) * x),
    Probe("inner product of three", lambda x, z: (x * z * x).sum(-1, keepdim=True) * x),
    Probe("sum of quotients", lambda x, z: (x / z).sum(-1, keepdim=True) * x),
    Probe("a product summed and read", lambda x, z: (x * z).mean(-1, keepdim=True) * (x * z)),
    Probe("a square summed and read", lambda x, z: x * x.pow(2).mean(-1, keepdim=True) + x.pow(2)),
    Probe("gram matrix", lambda x, z: x @ x.transpose(-1, -2) @ z),
    Probe("outer product, its diagonal", lambda x, z: torch.einsum("bii->bi", torch.einsum("btd,bte->bde", x, z))),
    Probe("trace", lambda x, z: torch.einsum("bii->b", torch.einsum("btd,bte->bde", x, x))[:, None, None] * x),
    Probe("a diagonal of a weight", lambda x, z, w: torch.einsum("btd,dde->bte", x, w), ((D, D, 3),)),
    Probe("bilinear", lambda x, z, w: F.bilinear(x, z, w), ((5, D, D),)),
    Probe("bilinear in one", lambda x, z, w: F.bilinear(x, x, w), ((5, D, D),)),
    Probe("there and back", lambda x, z, w: (x @ w) @ w.T, ((D, 7),)),
    Probe("there and back by tanh", lambda x, z, w: torch.tanh(x @ w) @ w.T, ((D, 7),)),
    Probe("there and back by relu", lambda x, z, w: torch.relu(x @ w) @ w.T, ((D, 7),)),
    Probe("a weight to the third", lambda x, z, w: x @ (w @ w @ w), ((D, D),)),
    Probe("a weight and its transpose", lambda x, z, w: x @ (w + w.T) + x, ((D, D),)),
    Probe("rows of norm one", lambda x, z, w, v: x @ (v * (w / w.norm(dim=0, keepdim=True))), ((D, D), (D,))),
    Probe("a matrix of norm one", lambda x, z, w: x @ (w / w.norm()), ((D, D),)),
    Probe("low rank with scales", lambda x, z, w, v: x + (x @ w) @ (v * w.T), ((D, 3), (3, 1))),
    Probe("Kronecker product", lambda x, z, w, v: x @ torch.kron(w, v), ((2, 3), (4, 2))),
)

BLOCKS = (
    Probe("beside itself", lambda x, z: torch.cat([x, x], -1)),
    Probe("two orders", lambda x, z: torch.cat([x, z], -1) * torch.cat([z, x], -1)),
    Probe("repeated", lambda x, z: x.repeat(1, 1, 3)),
    Probe("each repeated", lambda x, z: x.repeat_interleave(3, -1)),
    Probe("reversed", lambda x, z: x.flip(-1) + x),
    Probe("rolled", lambda x, z: x.roll(2, -1) * x),
    Probe("halves added", lambda x, z: x[..., :4] + x[..., 4:]),
    Probe("halves added and rectified", lambda x, z: (x[..., :4] + x[..., 4:]).relu()),
    Probe("halves multiplied", lambda x, z: x[..., :4] * x[..., 4:]),
    Probe("halves, inner product", lambda x, z: (x[..., :4] * x[..., 4:]).sum(-1, keepdim=True) * z),
    Probe("halves exchanged", lambda x, z: torch.cat([x[..., 4:], x[..., :4]], -1) * x),
    Probe("every other one a gate", lambda x, z: x[..., ::2] * x[..., 1::2].sigmoid()),
    Probe("heads, a mean as gate", lambda x, z: (heads(x) * heads(z).mean(-1, keepdim=True)).flatten(2)),
    Probe("heads, inner products", lambda x, z: (heads(x) * heads(z)).sum(-1)),
    Probe("heads, sums over them", lambda x, z: (heads(x) * heads(z)).sum(-2)),
    Probe("heads, both summed", lambda x, z: (heads(x) * heads(z)).sum((-1, -2))[..., None]),
    Probe("heads turned", lambda x, z: heads(x).transpose(-1, -2).flatten(2) * z),
    Probe("heads, outer product", lambda x, z: torch.einsum("btgk,btgl->btkl", heads(x), heads(z)).flatten(2)),
    Probe(
        "heads, weighted inner product", lambda x, z, w: (heads(x) * heads(z) * w).sum((-1, -2))[..., None], ((2, 4),)
    ),
    Probe("heads, one selected", lambda x, z: heads(x)[:, :, 0] * heads(x)[:, :, 1]),
    Probe("heads, gates", lambda x, z, w: (heads(x) * w[:, None]).flatten(2) * z, ((2,),)),
    Probe("heads, gates of two", lambda x, z, w, v: (heads(x) * w + heads(z) * v).flatten(2), ((2, 1), (2, 1))),
    Probe("heads mixed", lambda x, z, w: torch.einsum("btgk,hg->bthk", heads(x), w.softmax(-1)).flatten(2), ((2, 2),)),
    Probe("stacked, norm", lambda x, z: torch.stack([x, z], -1).norm(dim=-1)),
    Probe("units picked", lambda x, z: x[..., torch.tensor([0, 3, 1])]),
    Probe("units in pairs exchanged", lambda x, z: x[..., torch.tensor([1, 0, 3, 2, 5, 4, 7, 6])] * x),
)

NORMS = (
    Probe("rms norm", lambda x, z: rms(x)),
    Probe("rms norm, weight", lambda x, z, w: w * rms(x), ((D,),)),
    Probe("rms norm, one and a weight", lambda x, z, w: (1 + w) * rms(x), ((D,),)),
    Probe("rms norm, ones", lambda x, z, w: w * rms(x), (), ((D,),)),
    Probe("rms norm, ones added too", lambda x, z, w: w * rms(x) + w, (), ((D,),)),
    Probe(
        "rms norm, ones, then cut",
        lambda x, z, w: torch.cat([(w * rms(x))[..., :3].tanh(), x[..., 3:]], -1),
        (),
        ((D,),),
    ),
    Probe("rms norm of some", lambda x, z: x * torch.rsqrt(x[..., :4].pow(2).mean(-1, keepdim=True) + 1e-5)),
    Probe("rms norm of heads", lambda x, z: rms(heads(x)).flatten(2)),
    Probe("rms norm of heads, weight", lambda x, z, w: (w * rms(heads(x))).flatten(2), ((4,),)),
    Probe("divided by its norm", lambda x, z: x / x.norm(dim=-1, keepdim=True)),
    Probe("divided by its first norm", lambda x, z: x / x.norm(p=1, dim=-1, keepdim=True)),
    Probe("normalised", lambda x, z: F.normalize(x, dim=-1)),
    Probe("normalised, third norm", lambda x, z: F.normalize(x, p=3, dim=-1)),
    Probe("deviation", lambda x, z: (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True)),
    Probe("variance", lambda x, z: x * x.var(-1, keepdim=True)),
    Probe("layer norm", lambda x, z: F.layer_norm(x, (D,))),
    Probe("layer norm, weight", lambda x, z, w, v: F.layer_norm(x, (D,), w, v), ((D,), (D,))),
    Probe("layer norm, bias", lambda x, z, w: F.layer_norm(x, (D,), None, w), ((D,),)),
    Probe("layer norm, ones", lambda x, z, v, w: F.layer_norm(x, (D,), w, v), ((D,),), ((D,),)),
    Probe("layer norm, ones, then relu", lambda x, z, v, w: F.layer_norm(x, (D,), w, v).relu(), ((D,),), ((D,),)),
    Probe("layer norm of heads", lambda x, z: F.layer_norm(heads(x), (4,)).flatten(2)),
    Probe("layer norm over heads", lambda x, z: F.layer_norm(heads(x), (2, 4)).flatten(2)),
    Probe("layer norm of heads, weight", lambda x, z, w: F.layer_norm(heads(x), (4,), w).flatten(2), ((4,),)),
    Probe("group norm", lambda x, z: F.group_norm(x.transpose(1, 2), 2).transpose(1, 2)),
    Probe("group norm, ones", lambda x, z, v, w: F.group_norm(x.mT, 2, w, v).mT, ((D,),), ((D,),)),
    Probe("batch statistics", lambda x, z, w, v: F.batch_norm(x.mT, None, None, w, v, True).mT, ((D,), (D,))),
    Probe("instance norm", lambda x, z: F.instance_norm(x.mT).mT),
    Probe("weight norm", lambda x, z, v, g: F.linear(x, torch._weight_norm(v, g, 0)), ((7, D), (7, 1))),
    Probe("weight norm of columns", lambda x, z, v, g: F.linear(x, torch._weight_norm(v, g, 1)), ((7, D), (1, D))),
    Probe("cosine", lambda x, z: F.cosine_similarity(x, z, -1)[..., None] * x),
    Probe("distances", lambda x, z: torch.cdist(x, z)),
    Probe("distance", lambda x, z: F.pairwise_distance(x, z)[..., None] * z),
    Probe("scales of ones in a dot product", lambda x, z, w: (x @ w)[..., None] * x, (), ((D,),)),
    Probe("ones times ones", lambda x, z, w, v: (w * v) * x, (), ((D,), (D,))),
    Probe("divided by ones", lambda x, z, w: rms(x) / w, (), ((D,),)),
    Probe("ones divided", lambda x, z, w: w / x, (), ((D,),)),
)

ATTENTIONS = (
    Probe("attention to itself", lambda x, z: F.scaled_dot_product_attention(x, x, x)),
    Probe("attention with equal queries and keys", lambda x, z: F.scaled_dot_product_attention(x, x, z)),
    Probe("attention with equal keys and values", lambda x, z: F.scaled_dot_product_attention(x, z, z)),
    Probe("causal attention", lambda x, z: F.scaled_dot_product_attention(x, z, z, is_causal=True)),
    Probe("attention with a table", lambda x, z, w: F.scaled_dot_product_attention(x, z, z, attn_mask=w), ((6, 6),)),
    Probe("attention with two scores", lambda x, z: F.scaled_dot_product_attention(x, z, z, attn_mask=x @ z.mT)),
    Probe("attention of heads", lambda x, z: attend(heads(x), heads(z), heads(x))),
    Probe("linear attention", lambda x, z: (F.elu(x) + 1) @ ((F.elu(z) + 1).mT @ z)),
    Probe(
        "linear attention by relu",
        lambda x, z: x.relu() @ (z.relu().mT @ z) / (x.relu() @ z.relu().sum(1)[..., None] + 1),
    ),
    Probe(
        "attention over channels",
        lambda x, z: (F.normalize(x, dim=1).mT @ F.normalize(z, dim=1)).softmax(-1) @ z.mT @ x,
    ),
    Probe("rotated", lambda x, z: rotated(x) @ rotated(z).mT @ z),
)

POSITIONS = (
    Probe("sum over positions", lambda x, z: x.cumsum(1)),
    Probe("sum over units", lambda x, z: x.cumsum(-1)),
    Probe("softmax over positions", lambda x, z: x.softmax(1) * z),
    Probe("largest of positions", lambda x, z: x.amax(1, keepdim=True) * z),
    Probe("positions sorted", lambda x, z: x.sort(1).values),
    Probe("largest units", lambda x, z: x.topk(3, -1).values),
    Probe("product of positions", lambda x, z: x.prod(1, keepdim=True) * z),
    Probe("Fourier transform of positions", lambda x, z: torch.fft.fft(x, dim=1).real),
    Probe("Fourier transform of both", lambda x, z: torch.fft.fft2(x, dim=(-2, -1)).real),
    Probe("maxima of pairs", lambda x, z: F.max_pool1d(x.mT, 2).mT),
    Probe("means of pairs", lambda x, z: F.avg_pool1d(x.mT, 2).mT),
    Probe("means of pairs of units", lambda x, z: F.avg_pool1d(x, 2)),
    Probe("convolution", lambda x, z, w: F.conv1d(x.mT, w).mT, ((7, D, 3),)),
    Probe("grouped convolution", lambda x, z, w: F.conv1d(x.mT, w, groups=2).mT, ((6, 4, 3),)),
    Probe("depthwise convolution", lambda x, z, w: F.conv1d(x.mT, w, groups=D).mT, ((D, 1, 3),)),
    Probe("lower triangle of units", lambda x, z: torch.tril(x.mT @ z) @ z.mT @ x),
)  # fmt: skip


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (y.transpose(1, 2) for y in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


PROBES = (
    *POINTWISE, *TYPES, *CHOICES, *CONSTANTS, *IN_PLACE, *PRODUCTS, *BLOCKS, *NORMS, *ATTENTIONS, *POSITIONS,
)  # fmt: skip
