"""Calls of operations that PyTorch's database of operators does not name: other spellings, and what exports make."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

aten = torch.ops.aten
UNARY = ("absolute", "alias", "arctan", "detach", "negative", "special_erf", "special_expit", "special_expm1")
COPIES = ("lift_fresh", "lift_fresh_copy", "zero", "adjoint", "numpy_T")
BINARY = ("copy", "divide", "greater", "less", "not_equal", "subtract", "type_as")


def rare_examples() -> Iterator[tuple[Any, ...]]:
    """(operation, function, operand, …), as in `permgraph.rules.examples`."""
    for name in (*UNARY, *COPIES):
        yield name, getattr(aten, name), (2, 3)
    for name in BINARY:
        yield name, getattr(aten, name), (2, 3), (2, 3)
    for name in ("__and__", "__or__", "__xor__"):
        yield name, _of_truths(getattr(aten, name)), (2, 3), (2, 3)
    yield "arccos", lambda x: torch.arccos(x.tanh()), (2, 3)
    yield "arctanh", lambda x: torch.arctanh(x.tanh()), (2, 3)
    yield from _views()
    yield from _norms()
    yield from _others()
    yield from _resampling()


def _of_truths(op: Any) -> Any:
    return lambda a, b: op(a > 0, b > 0)


def _views() -> Iterator[tuple[Any, ...]]:
    yield "_conj", lambda x: aten._conj(x.to(torch.complex128)), (2, 3)
    yield "imag", lambda x: aten.imag(x.to(torch.complex128) * 1j), (2, 3)
    yield "view_as_real", lambda x: torch.view_as_real(x.to(torch.complex128)), (3, 4)
    yield "_to_copy", lambda x: aten._to_copy(x, dtype=torch.complex128), (2, 3)
    yield "_unsafe_view", lambda x: aten._unsafe_view(x, [2, 3, 4]), (2, 12)
    yield "swapaxes", lambda x: x.swapaxes(0, 2), (2, 3, 4)
    yield "swapdims", lambda x: x.swapdims(0, 2), (2, 3, 4)
    yield "moveaxis", lambda x: x.moveaxis(0, 2), (2, 3, 4)
    yield "native_channel_shuffle", lambda x: aten.native_channel_shuffle(x, 2), (1, 6, 4, 1)
    yield "concat", lambda a, b: torch.concat([a, b], 1), (2, 3), (2, 4)
    yield "concatenate", lambda a, b: torch.concatenate([a, b], 1), (2, 3), (2, 4)


def _norms() -> Iterator[tuple[Any, ...]]:
    yield "_softmax", lambda x: aten._softmax(x, 1, False), (2, 3, 4)
    yield "_log_softmax", lambda x: aten._log_softmax(x, 1, False), (2, 3, 4)
    yield "_safe_softmax", lambda x: aten._safe_softmax(x, 1), (2, 3, 4)
    yield "_fused_rms_norm", lambda x, w: aten._fused_rms_norm(x, [5], w, 0.1)[0], (3, 5), (5,)
    yield "_native_batch_norm_legit_no_training", _without_training, (2, 3, 5), (3,), (3,), (3,), (3,)


def _without_training(x: Tensor, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor) -> Any:
    return aten._native_batch_norm_legit_no_training(x, weight, bias, mean, var.abs(), 0.1, 1e-5)[0]


def _others() -> Iterator[tuple[Any, ...]]:
    yield "ger", torch.ger, (3,), (4,)
    yield "_convolution", _convolved, (2, 6, 5), (8, 3, 2)
    yield "native_dropout", lambda x: aten.native_dropout(x, 0.5, False)[0], (2, 3)
    yield "feature_dropout", lambda x: aten.feature_dropout(x, 0.5, False), (2, 3, 4)
    yield (
        "_unsafe_index_put",
        _masked_token,
        (3, 2, 4),
        (4,),
        torch.tensor([[True, False], [False, True], [True, True]]),
    )
    yield "rnn_tanh_cell", torch.rnn_tanh_cell, (2, 5), (2, 4), (4, 5), (4, 4), (4,), (4,)
    yield "rnn_relu_cell", torch.rnn_relu_cell, (2, 5), (2, 4), (4, 5), (4, 4), (4,), (4,)
    yield "rnn_relu", _recurrent, (2, 3, 5), (4, 5), (4, 4), (4,), (4,)


def _convolved(x: Tensor, weight: Tensor) -> Any:
    return aten._convolution(x, weight, None, [1], [0], [1], False, [0], 2, False, False, True)


def _masked_token(x: Tensor, token: Tensor, mask: Tensor) -> Any:
    return aten._unsafe_index_put(x, [mask], token)


def _recurrent(x: Tensor, *weights: Tensor) -> Any:
    state = torch.zeros(1, x.shape[0], weights[1].shape[1], dtype=x.dtype)
    return torch.rnn_relu(x, state, list(weights), True, 1, 0.0, False, False, True)[0]


def _resampling() -> Iterator[tuple[Any, ...]]:
    yield "_adaptive_avg_pool2d", lambda x: aten._adaptive_avg_pool2d(x, [2, 2]), (1, 3, 4, 4)
    yield "_adaptive_avg_pool3d", lambda x: aten._adaptive_avg_pool3d(x, [2, 2, 2]), (1, 3, 4, 4, 4)
    yield "upsample_nearest1d", lambda x: F.interpolate(x, scale_factor=2), (1, 3, 4)
    yield "upsample_nearest3d", lambda x: F.interpolate(x, scale_factor=2), (1, 3, 2, 2, 2)
    yield "upsample_linear1d", lambda x: F.interpolate(x, size=5, mode="linear"), (1, 3, 4)
    yield "upsample_trilinear3d", lambda x: F.interpolate(x, size=(3, 3, 3), mode="trilinear"), (1, 3, 2, 2, 2)
    yield "upsample_bicubic2d", lambda x: F.interpolate(x, size=(5, 7), mode="bicubic"), (1, 3, 4, 4)
    yield "_upsample_nearest_exact2d", lambda x: F.interpolate(x, size=(5, 7), mode="nearest-exact"), (1, 3, 2, 4)
    yield "_upsample_bicubic2d_aa", _smooth_bicubic, (1, 3, 6, 8)


def _smooth_bicubic(x: Tensor) -> Tensor:
    return F.interpolate(x, size=(3, 5), mode="bicubic", antialias=True)
