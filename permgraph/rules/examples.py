"""One small call or more for each operation with a rule; distinct sizes tell distinct indices apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from permgraph.rules.example import Example
from permgraph.rules.rare_examples import rare_examples

aten = torch.ops.aten
POSITIVE = torch.tensor([[0.3, 1.2, 2.0], [0.7, 1.7, 3.1]], dtype=torch.float64)


def _examples() -> Iterator[tuple[Any, ...]]:
    """(operation, function, operand, ...)."""
    yield from _contractions()
    yield from _convolutions()
    yield from _norms()
    yield from _views()
    yield from _segments()
    yield from _others()


def _contractions() -> Iterator[tuple[Any, ...]]:
    yield "linear", F.linear, (2, 3), (5, 3), (5,)
    yield "linear", F.linear, (2, 3), (5, 3)
    yield "linear", F.linear, (2, 4, 3), (3,)
    yield "linear", F.linear, (2, 4, 3), (3,), ()
    yield "matmul", torch.matmul, (2, 3, 4), (4, 5)
    yield "matmul", torch.matmul, (3, 2, 4, 5), (3, 1, 5, 6)
    yield "matmul", torch.matmul, (3, 4), (4,)
    yield "mm", torch.mm, (2, 3), (3, 4)
    yield "bmm", torch.bmm, (2, 3, 4), (2, 4, 5)
    yield "mv", torch.mv, (2, 3), (3,)
    yield "dot", torch.dot, (4,), (4,)
    yield "vdot", torch.vdot, (4,), (4,)
    yield "addmm", torch.addmm, (4,), (2, 3), (3, 4)
    yield "baddbmm", torch.baddbmm, (2, 1, 5), (2, 3, 4), (2, 4, 5)
    yield "addbmm", torch.addbmm, (3, 5), (2, 3, 4), (2, 4, 5)
    yield "addmv", torch.addmv, (2,), (2, 3), (3,)
    yield "einsum", lambda a, b: torch.einsum("bhqd,bhkd->bhqk", a, b), (2, 3, 4, 5), (2, 3, 6, 5)
    yield "einsum", lambda a: torch.einsum("i...->...i", a), (2, 3, 4)
    yield "tensordot", lambda a, b: torch.tensordot(a, b, dims=([2, 0], [1, 2])), (2, 3, 4), (5, 4, 2)
    yield "kron", torch.kron, (2, 3), (4, 2)
    yield "trace", torch.trace, (4, 4)
    yield "outer", torch.outer, (3,), (4,)
    yield "bilinear", F.bilinear, (2, 3), (2, 4), (5, 3, 4), (5,)
    yield "cdist", torch.cdist, (3, 5), (4, 5)


def _convolutions() -> Iterator[tuple[Any, ...]]:
    yield "conv1d", F.conv1d, (2, 3, 7), (5, 3, 4), (5,)
    yield "conv1d", F.conv1d, (2, 3, 7), (5, 3, 1)
    yield "conv2d", lambda x, w: F.conv2d(x, w, groups=2), (1, 6, 5, 4), (10, 3, 2, 2)
    yield "conv3d", F.conv3d, (1, 2, 4, 4, 4), (3, 2, 2, 2, 2)
    yield "conv_transpose1d", lambda x, w: F.conv_transpose1d(x, w, groups=2), (2, 6, 5), (6, 4, 3)
    yield "conv_transpose2d", F.conv_transpose2d, (1, 3, 4, 4), (3, 5, 2, 2)
    yield "conv_transpose3d", F.conv_transpose3d, (1, 2, 3, 3, 3), (2, 3, 2, 2, 2)
    yield "convolution", _general(False), (2, 6, 5), (8, 3, 2)
    yield "convolution", _general(True), (2, 6, 5), (6, 4, 2)
    yield "adaptive_avg_pool1d", lambda x: F.adaptive_avg_pool1d(x, 2), (2, 3, 6)
    yield "adaptive_avg_pool2d", lambda x: F.adaptive_avg_pool2d(x, 1), (2, 3, 4, 5)
    yield "avg_pool2d", lambda x: F.avg_pool2d(x, 2), (2, 3, 4, 6)
    yield "max_pool1d", lambda x: F.max_pool1d(x, 2), (2, 3, 6)
    yield "max_pool2d", lambda x: F.max_pool2d(x, 2), (2, 3, 4, 6)
    yield "upsample_nearest2d", lambda x: F.interpolate(x, scale_factor=2), (1, 3, 2, 4)
    yield "upsample_bilinear2d", lambda x: F.interpolate(x, size=(5, 7), mode="bilinear"), (1, 3, 2, 4)
    yield "grid_sampler", lambda x, grid: F.grid_sample(x, grid / 3, align_corners=False), (1, 3, 4, 5), (1, 6, 7, 2)
    yield "im2col", lambda x: F.unfold(x, (2, 2)), (2, 3, 4, 5)
    yield "col2im", lambda x: F.fold(x, (4, 5), (2, 2)), (1, 12, 12)


def _general(transposed: bool) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, w: aten.convolution(x, w, None, [1], [0], [1], transposed, [0], 2)


def _norms() -> Iterator[tuple[Any, ...]]:
    yield "layer_norm", lambda x, w, b: F.layer_norm(x, (5,), w, b), (2, 3, 5), (5,), (5,)
    yield "layer_norm", lambda x: F.layer_norm(x, (4, 5)), (3, 4, 5)
    yield "rms_norm", lambda x, w: F.rms_norm(x, (5,), w, 0.1), (3, 5), (5,)
    yield "native_layer_norm", lambda x, w, b: aten.native_layer_norm(x, [5], w, b, 1e-5)[0], (3, 5), (5,), (5,)
    yield "group_norm", lambda x, w, b: F.group_norm(x, 2, w, b), (2, 6, 5), (6,), (6,)
    yield "batch_norm", lambda x, m, v, w, b: F.batch_norm(x, m, v.abs(), w, b), (2, 3, 5), (3,), (3,), (3,), (3,)
    yield "instance_norm", F.instance_norm, (2, 3, 5)
    yield "_weight_norm", lambda v, g: torch._weight_norm(v, g, 0), (3, 4, 5), (3, 1, 1)
    yield "_weight_norm", lambda v, g: torch._weight_norm(v, g, 2), (3, 4, 5), (1, 1, 5)
    yield "softmax", lambda x: x.softmax(0), ()
    yield "softmax", lambda x: F.softmax(x, 1), (2, 3, 4)
    yield "log_softmax", lambda x: F.log_softmax(x, -1), (2, 3, 4)
    yield "sum", lambda x: x.sum(1), (2, 3, 4)
    yield "sum", torch.sum, (2, 3)
    yield "mean", lambda x: x.mean((0, 2), keepdim=True), (2, 3, 4)
    yield "amax", lambda x: x.amax(-1), (2, 3)
    yield "max", lambda x: x.max(1), (2, 3, 4)
    yield "max", torch.max, (2, 3), (2, 3)
    yield "var", lambda x: x.var(1), (2, 3)
    yield "std", lambda x: x.std(1), (2, 3)
    yield "prod", lambda x: x.prod(0), (2, 3)
    yield "logsumexp", lambda x: x.logsumexp(1), (2, 3)
    yield "linalg_vector_norm", lambda x: torch.linalg.vector_norm(x, dim=1), (2, 3)
    yield "argmax", lambda x: x.argmax(1), (3, 4)
    yield "median", lambda x: x.median(1), (3, 5)


def _views() -> Iterator[tuple[Any, ...]]:
    yield "view", lambda x: x.view(2, 3, 4), (2, 12)
    yield "view", lambda x: x.view(6, 4), (2, 12)
    yield "view", lambda x: x.view(3, 8), (4, 6)
    yield "reshape", lambda x: x.reshape(-1), (2, 3)
    yield "flatten", lambda x: x.flatten(1), (2, 3, 4)
    yield "unflatten", lambda x: x.unflatten(1, (3, 4)), (2, 12)
    yield "unsqueeze", lambda x: x.unsqueeze(1), (2, 3)
    yield "squeeze", lambda x: x.squeeze(1), (2, 1, 3)
    yield "permute", lambda x: x.permute(2, 0, 1), (2, 3, 4)
    yield "transpose", lambda x: x.transpose(0, 2), (2, 3, 4)
    yield "t", torch.t, (2, 3)
    yield "movedim", lambda x: x.movedim((0, 1), (2, 0)), (2, 3, 4)
    yield "expand", lambda x: x.expand(2, 3, 4), (3, 1)
    yield "repeat", lambda x: x.repeat(2, 3), (4, 5)
    yield "repeat_interleave", lambda x: x.repeat_interleave(2, 1), (2, 3)
    yield "pixel_shuffle", lambda x: F.pixel_shuffle(x, 2), (1, 8, 3, 1)
    yield "pixel_unshuffle", lambda x: F.pixel_unshuffle(x, 2), (1, 2, 6, 2)
    yield "view_as_complex", lambda x: torch.view_as_complex(x).abs(), (3, 4, 2)
    yield "channel_shuffle", lambda x: F.channel_shuffle(x, 2), (1, 6, 4, 1)


def _segments() -> Iterator[tuple[Any, ...]]:
    yield "slice", lambda x: x[:, 1:4], (2, 6)
    yield "slice", lambda x: x[:, 1::2], (3, 6)
    yield "slice", lambda x: x[:, ::4], (3, 6)
    yield "narrow", lambda x: x.narrow(1, 2, 3), (2, 6)
    yield "select", lambda x: x[:, 1], (2, 3, 4)
    yield "unbind", lambda x: x.unbind(1), (2, 3, 4)
    yield "chunk", lambda x: x.chunk(2, 1), (3, 8)
    yield "split", lambda x: x.split(3, 1), (2, 8)
    yield "split_with_sizes", lambda x: x.split([1, 3, 4], 1), (2, 8)
    yield "cat", lambda a, b: torch.cat([a, b], 1), (2, 3), (2, 4)
    yield "stack", lambda a, b: torch.stack([a, b], 1), (3, 4), (3, 4)
    yield "glu", lambda x: F.glu(x, 1), (3, 8)
    yield "pad", lambda x: F.pad(x, (1, 2)), (3, 4)
    yield "pad", lambda x: F.pad(x, (1, 2), mode="reflect"), (2, 3, 5)
    yield "roll", lambda x: x.roll(2, 1), (3, 5)
    yield "cumsum", lambda x: x.cumsum(1), (2, 4)
    yield "sort", lambda x: x.sort(1), (2, 4)
    yield "topk", lambda x: x.topk(2, 1), (3, 4)
    yield "argsort", lambda x: x.argsort(1), (2, 4)
    yield "fft_fft", lambda x: torch.fft.fft(x, dim=1).real, (3, 4)
    yield "fft_rfftn", lambda x: torch.fft.rfftn(x, dim=(1, 2)).abs(), (2, 3, 4)
    yield "flip", lambda x: x.flip(1), (2, 4)
    yield "tril", torch.tril, (3, 4)
    yield "unfold", lambda x: x.unfold(1, 3, 2), (2, 7)


def _others() -> Iterator[tuple[Any, ...]]:
    yield "add", torch.add, (2, 3), (3,)
    yield "mul", torch.mul, (2, 1, 4), (3, 1)
    yield "multiply", torch.multiply, (2, 3), (3,)
    yield "hardswish", F.hardswish, (2, 3)
    yield "batch_norm", _statistics_of_the_batch, (4, 3), (3,), (3,)
    yield "norm", lambda x: aten.norm.ScalarOpt_dim(x, 2, [1]), (2, 3)
    yield "cosine_similarity", lambda a, b: F.cosine_similarity(a, b, 1), (3, 4, 5), (3, 4, 1)
    yield "pairwise_distance", F.pairwise_distance, (3, 4), (3, 4)
    yield "linalg_norm", lambda x: torch.linalg.norm(x, dim=1), (2, 3)
    yield "linalg_norm", lambda x: torch.linalg.norm(x, ord=2, dim=(1, 2)), (2, 3, 4)
    yield "relu", F.relu, (2, 3)
    yield "clamp", lambda x: x.clamp(min=0), (2, 3)
    yield "abs", torch.abs, (2, 3)
    yield "sign", torch.sign, (2, 3)
    yield "tanh", torch.tanh, (2, 3)
    yield "sqrt", lambda x: x.exp().sqrt(), (2, 3)
    yield "sqrt", torch.sqrt, POSITIVE
    yield "rsqrt", torch.rsqrt, POSITIVE
    yield "reciprocal", torch.reciprocal, (2, 3)
    yield "pow", lambda x: x.pow(3), (2, 3)
    yield "pow", lambda x: x**-2, (2, 3)
    yield "pow", lambda x: x.pow(1.5), POSITIVE
    yield "addcmul", lambda x, a, b: torch.addcmul(x, a, b, value=0.5), (2, 3), (2, 3), (2, 3)
    yield "addcdiv", torch.addcdiv, (2, 3), (2, 3), (3,)
    yield "lerp", lambda a, b: torch.lerp(a, b, 0.3), (2, 3), (2, 3)
    yield "lerp", torch.lerp, (2, 3), (2, 3), (3,)
    yield "maximum", torch.maximum, (2, 3), (2, 3)
    yield "where", lambda a, c: torch.where(c > 0, a, 0.0), (2, 3), (2, 3)
    yield "where", lambda a, c: torch.where(c > 0, torch.zeros_like(a), a), (2, 3), (2, 3)
    yield "where", lambda a, b: torch.where(a > 0, a, b), (2, 3), (3,)
    yield "masked_fill", lambda a, b: a.masked_fill(b > 0, 0.5), (2, 3), (2, 3)
    yield "prelu", F.prelu, (2, 3, 4), (3,)
    yield "prelu", F.prelu, (2, 3, 4), (1,)
    yield "clone", torch.clone, (2, 3)
    yield "zeros_like", lambda x: x + torch.zeros_like(x), (2, 3)
    yield "embedding", lambda w, i: F.embedding(i, w), (5, 3), torch.tensor([[0, 2], [1, 4]])
    yield "embedding_bag", lambda w, i: F.embedding_bag(i, w, mode="max"), (3, 4), torch.tensor([[0, 2], [1, 0]])
    yield "diagonal", lambda x: x.diagonal(dim1=1, dim2=3), (2, 4, 3, 4)
    yield "diagonal", lambda x: x.diagonal(1), (4, 4)
    yield "index", lambda x, i: x[:, i], (2, 5, 3), torch.tensor([0, 3, 3])
    yield "index", lambda x, i: x[i, :, i], (5, 2, 5), torch.tensor([0, 3, 4])
    yield "index", lambda x, i: x[:, i, i], (2, 5, 5), torch.tensor([[0], [4]])
    yield "index", lambda x: x[:, [2, 3]], (2, 5)
    yield "index_select", lambda x, i: x.index_select(1, i), (2, 5), torch.tensor([0, 3, 3])
    yield "gather", lambda x, i: x.gather(1, i), (2, 5), torch.tensor([[0, 3, 3], [1, 2, 4]])
    yield "gather", lambda x, i: x.sum().gather(0, i), (2, 5), torch.tensor(0)
    yield "scatter", lambda x, v, i: x.scatter(1, i, v), (3, 5), (3, 2), torch.tensor([[0, 3], [1, 4], [2, 0]])
    yield "scatter_add", lambda x, v, i: x.scatter_add(1, i, v), (3, 5), (2, 2), torch.tensor([[0, 3], [1, 4]])
    yield "masked_scatter", _merged, (2, 3, 4), (5, 4), torch.tensor([[True, False, True], [True, True, False]])
    yield "index_add", lambda x, v, i: x.index_add(1, i, v), (3, 5, 4), (3, 2, 4), torch.tensor([0, 3])
    yield "index_fill", lambda x, i: x.index_fill(1, i, 0.5), (3, 5), torch.tensor([0, 3])
    yield "index_put", _masked_token, (3, 2, 4), (4,), torch.tensor([[True, False], [False, True], [True, True]])
    yield "scaled_dot_product_attention", F.scaled_dot_product_attention, (2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 7)
    yield "scaled_dot_product_attention", _attend, (2, 6, 4, 5), (2, 3, 7, 5), (2, 3, 7, 8)
    yield "scaled_dot_product_attention", _masked, (2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 7), (3, 1, 6)
    yield "lstm", _recurrent(torch.lstm, 2), (2, 3, 5), (16, 5), (16, 4), (16,), (16,)
    yield "gru", _recurrent(torch.gru, 1), (2, 3, 5), (12, 5), (12, 4), (12,), (12,)
    yield "rnn_tanh", _recurrent(torch.rnn_tanh, 1), (2, 3, 5), (4, 5), (4, 4), (4,), (4,)
    yield "lstm_cell", _lstm_cell, (2, 5), (2, 4), (2, 4), (16, 5), (16, 4), (16,), (16,)
    yield "gru_cell", torch.gru_cell, (2, 5), (2, 4), (12, 5), (12, 4), (12,), (12,)


def _statistics_of_the_batch(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.batch_norm(x, None, None, weight, bias, True)


def _merged(x: Tensor, source: Tensor, mask: Tensor) -> Tensor:
    return x.masked_scatter(mask[..., None].expand_as(x), source)


def _masked_token(x: Tensor, token: Tensor, mask: Tensor) -> Tensor:
    return x.index_put((mask,), token)


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)


def _masked(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def _recurrent(op: Any, states: int) -> Callable[..., Tensor]:
    def run(x: Tensor, *weights: Tensor) -> Tensor:
        state = torch.zeros(1, x.shape[0], weights[1].shape[1], dtype=x.dtype)
        hx = [state] * states if states > 1 else state
        result = op(x, hx, list(weights), True, 1, 0.0, False, False, True)
        return result[0]  # type: ignore[no-any-return]

    return run


def _lstm_cell(x: Tensor, h: Tensor, c: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
    return torch.lstm_cell(x, [h, c], *weights)


def _made(given: Iterator[tuple[Any, ...]]) -> tuple[Example, ...]:
    return tuple(Example(f"aten.{op}", function, tuple(operands)) for op, function, *operands in given)


EXAMPLES = _made(_examples())
RARE = _made(rare_examples())
"""Operations that neither `EXAMPLES` nor PyTorch's database has; changes that their rules miss are known."""
