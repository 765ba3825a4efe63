"""Calls of pointwise functions, copies and constructors: they judge `permgraph.rules.elementwise`."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

aten = torch.ops.aten
POSITIVE = torch.tensor([[0.3, 1.2, 2.0], [0.7, 1.7, 3.1]], dtype=torch.float64)
COPIES = ("alias", "contiguous", "detach", "lift_fresh_copy", "zero")
FUNCTIONS = ("absolute", "arctan", "isfinite", "isreal", "log_sigmoid", "nan_to_num", "negative", "positive")
SPECIAL = ("special_erf", "special_expit", "special_expm1")
ONE_TENSOR = (*COPIES, *FUNCTIONS, *SPECIAL)
COMPARISONS = ("greater", "isclose", "less", "not_equal")
TWO_TENSORS = (*COMPARISONS, "complex", "copy", "divide", "ldexp", "polar", "subtract", "true_divide", "type_as")
TRUTHS = ("__and__", "__or__", "__xor__")
OF_COMPLEX = ("_conj", "conj", "imag", "real", "resolve_conj", "resolve_neg")


def _of_truths(op: Callable[..., Any]) -> Callable[[Tensor, Tensor], Any]:
    return lambda a, b: op(a > 0, b > 0)


def _of_complex(op: Callable[..., Any]) -> Callable[[Tensor, Tensor], Any]:
    return lambda a, b: op(torch.complex(a, b))


EXAMPLES = (
    ("add", torch.add, (2, 3), (3,)),
    ("mul", torch.mul, (2, 1, 4), (3, 1)),
    ("multiply", torch.multiply, (2, 3), (3,)),
    ("hardswish", F.hardswish, (2, 3)),
    ("relu", F.relu, (2, 3)),
    ("clamp", lambda x: x.clamp(min=0), (2, 3)),
    ("abs", torch.abs, (2, 3)),
    ("sign", torch.sign, (2, 3)),
    ("tanh", torch.tanh, (2, 3)),
    ("sqrt", lambda x: x.exp().sqrt(), (2, 3)),
    ("sqrt", torch.sqrt, POSITIVE),
    ("rsqrt", torch.rsqrt, POSITIVE),
    ("reciprocal", torch.reciprocal, (2, 3)),
    ("pow", lambda x: x.pow(3), (2, 3)),
    ("pow", lambda x: x**-2, (2, 3)),
    ("pow", lambda x: x.pow(1.5), POSITIVE),
    ("addcmul", lambda x, a, b: torch.addcmul(x, a, b, value=0.5), (2, 3), (2, 3), (2, 3)),
    ("addcdiv", torch.addcdiv, (2, 3), (2, 3), (3,)),
    ("lerp", lambda a, b: torch.lerp(a, b, 0.3), (2, 3), (2, 3)),
    ("lerp", torch.lerp, (2, 3), (2, 3), (3,)),
    ("maximum", torch.maximum, (2, 3), (2, 3)),
    ("where", lambda a, c: torch.where(c > 0, a, 0.0), (2, 3), (2, 3)),
    ("where", lambda a, c: torch.where(c > 0, torch.zeros_like(a), a), (2, 3), (2, 3)),
    ("where", lambda a, b: torch.where(a > 0, a, b), (2, 3), (3,)),
    ("masked_fill", lambda a, b: a.masked_fill(b > 0, 0.5), (2, 3), (2, 3)),
    ("prelu", F.prelu, (2, 3, 4), (3,)),
    ("prelu", F.prelu, (2, 3, 4), (1,)),
    ("clone", torch.clone, (2, 3)),
    ("zeros_like", lambda x: x + torch.zeros_like(x), (2, 3)),
)

OTHER_FORMS = (
    ("arccos", lambda x: torch.arccos(x.tanh()), (2, 3)),
    ("arctanh", lambda x: torch.arctanh(x.tanh()), (2, 3)),
    ("_to_copy", lambda x: aten._to_copy(x, dtype=torch.complex128), (2, 3)),
    ("native_dropout", lambda x: aten.native_dropout(x, 0.5, False)[0], (2, 3)),
    ("feature_dropout", lambda x: aten.feature_dropout(x, 0.5, False), (2, 3, 4)),
    *((name, getattr(aten, name), (2, 3)) for name in ONE_TENSOR),
    *((name, getattr(aten, name), (2, 3), (2, 3)) for name in TWO_TENSORS),
    *((name, _of_truths(getattr(aten, name)), (2, 3), (2, 3)) for name in TRUTHS),
    *((name, _of_complex(getattr(aten, name)), (2, 3), (2, 3)) for name in OF_COMPLEX),
    ("fill", lambda x: x + aten.fill(x, 0.5), (2, 3)),
    ("rsub", lambda x: aten.rsub(x, 2), (2, 3)),
    ("to", lambda x: x.to(torch.complex128), (2, 3)),
    ("dropout", lambda x: F.dropout(x, 0.5, training=False), (2, 3)),
    ("alpha_dropout", lambda x: F.alpha_dropout(x, 0.5, training=False), (2, 3)),
    ("feature_alpha_dropout", lambda x: F.feature_alpha_dropout(x, 0.5, training=False), (2, 3, 4)),
    ("full", lambda x: x + torch.full((2, 3), 0.5), (2, 3)),
    ("full_like", lambda x: x + torch.full_like(x, 0.5), (2, 3)),
    ("new_full", lambda x: x + x.new_full((2, 3), 0.5), (2, 3)),
    ("ones", lambda x: x + torch.ones(2, 3), (2, 3)),
    ("ones_like", lambda x: x + torch.ones_like(x), (2, 3)),
    ("new_ones", lambda x: x + x.new_ones(2, 3), (2, 3)),
    ("zeros", lambda x: x + torch.zeros(2, 3), (2, 3)),
    ("new_zeros", lambda x: x + x.new_zeros(2, 3), (2, 3)),
    ("empty", lambda x: torch.empty(2, 3, dtype=x.dtype).copy_(x), (2, 3)),
    ("empty_like", lambda x: torch.empty_like(x).copy_(x), (2, 3)),
    ("new_empty", lambda x: x.new_empty(2, 3).copy_(x), (2, 3)),
    ("scalar_tensor", lambda x: x + torch.scalar_tensor(0.5), (2, 3)),
)
