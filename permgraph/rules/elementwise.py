"""Operations that treat every element alike: pointwise functions, copies, constructors of uniform tensors."""

import torch

from permgraph.algebra.kinds import Kind
from permgraph.algebra.laws import (
    ABSOLUTE,
    EVEN,
    HOMOGENEOUS,
    LINEAR,
    ODD,
    SAME,
    SIGN,
    SQUARE,
    Law,
    product_of,
    sum_of,
    to_the,
)
from permgraph.algebra.relations import Value
from permgraph.rules.registry import DRAWS, Call, rule

POWERS = (-4, -3, -2, -1, -0.5, 0.5, 1, 1.5, 3, 4)
SUMS = ("add", "rsub", "sub", "subtract")
PRODUCTS = ("mul", "multiply")
QUOTIENTS = ("div", "divide", "true_divide")
FUNCTIONS = (
    dict.fromkeys(("alpha_dropout", "dropout", "feature_dropout", "neg", "negative", "positive"), LINEAR)
    | dict.fromkeys(("arcsin", "arcsinh", "arctan", "arctanh", "asin", "asinh", "atan", "atanh", "erf", "erfinv"), ODD)
    | dict.fromkeys(("hardshrink", "sin", "sinh", "softshrink", "special_erf", "tan", "tanh", "trunc"), ODD)
    | dict.fromkeys(("abs", "absolute"), ABSOLUTE)
    | dict.fromkeys(("cos", "cosh"), EVEN)
    | dict.fromkeys(("sgn", "sign"), SIGN)
    | {"leaky_relu": HOMOGENEOUS, "relu": HOMOGENEOUS, "square": SQUARE}
    | {"reciprocal": to_the(-1), "rsqrt": to_the(-0.5), "sqrt": to_the(0.5)}
)
"""Pointwise functions of one tensor that allow more than permutations."""
SCALARS = (
    *("a", "alpha", "atol", "b", "equal_nan", "i", "nan", "neginf", "other", "posinf", "rounding_mode", "rtol", "self"),
    *("value", "x"),
)
"""Numbers that a pointwise operation takes for all elements alike."""

COPIED = Law(((1,),))  # the old elements of the first operand are not read
FILLED = Law(((),), within={0: Kind.CENTRED})  # one number everywhere

WIDE = (None, torch.int32, torch.int64, torch.float32, torch.float64)
"""Types that hold the number of any unit."""


@rule(
    "aten.__and__",
    "aten.__or__",
    "aten.__xor__",
    "aten._conj",
    "aten.absolute",
    "aten.arccos",
    "aten.arctan",
    "aten.arctanh",
    "aten.complex",
    "aten.conj",
    "aten.copy",
    "aten.divide",
    "aten.fill",
    "aten.greater",
    "aten.hardswish",
    "aten.imag",
    "aten.isclose",
    "aten.isfinite",
    "aten.isreal",
    "aten.ldexp",
    "aten.less",
    "aten.log_sigmoid",
    "aten.masked_fill",
    "aten.multiply",
    "aten.nan_to_num",
    "aten.negative",
    "aten.not_equal",
    "aten.polar",
    "aten.positive",
    "aten.real",
    "aten.resolve_conj",
    "aten.resolve_neg",
    "aten.rsub",
    "aten.special_erf",
    "aten.special_expit",
    "aten.special_expm1",
    "aten.subtract",
    "aten.true_divide",
    "aten.where",
    "aten.zero",
    ignores=SCALARS,
)
def pointwise(call: Call) -> None:
    """Every axis of an operand is the axis of the result that it broadcasts to."""
    operands = list(call.tensors())
    if not operands:
        call.pin_all("computed from numbers alone")
        return
    if any(value.shape != out.shape for out in call.outs[1:] for value in [call.out]):
        call.pin_all("results of different shapes")
        return
    values = [*operands, *call.outs]
    pattern = ", ".join(["..."] * len(operands)) + " -> " + ", ".join(["..."] * len(call.outs))
    call.relate(pattern, *values, law=_law(call, len(operands)))


def _law(call: Call, count: int) -> Law | None:
    """What a pointwise operation of `count` tensors allows beyond permutations."""
    op = call.source.op.removeprefix("aten.").rstrip("_")
    if op in FUNCTIONS and count == 1:
        return FUNCTIONS[op]
    if op in SUMS:
        return sum_of(count, affine=count == 1 and bool(call.get("other")))
    if op in PRODUCTS:
        return product_of(count)
    if op in QUOTIENTS and call.get("rounding_mode") is None:
        return product_of(count, frozenset({1}) if count == 2 else frozenset())
    if op == "pow" and count == 1:
        exponent = call.get("exponent")
        return SQUARE if exponent == 2 else to_the(exponent) if exponent in POWERS else None
    if op in ("addcmul", "addcdiv") and count == 3:
        return Law(((0,), (1, 2)), frozenset({2}) if op == "addcdiv" else frozenset())
    if op == "lerp":
        return sum_of(2) if count == 2 else Law(((0,), (0, 2), (1, 2)))
    if op == "copy" and count == 2:
        return COPIED
    if op in ("maximum", "minimum", "fmax", "fmin"):
        return Law(((0,), (1,)), within={0: Kind.SCALED, 1: Kind.SCALED})
    if op in ("clamp", "clamp_min") and count == 1 and call.get("min") == 0 and call.get("max") is None:
        return HOMOGENEOUS
    if op == "masked_fill" and count == 2 and not call.get("value"):
        return Law(((0, 1),), within={1: Kind.PERMUTATION})
    return _chosen(call) if op == "where" else None


def _chosen(call: Call) -> Law | None:
    """One of two tensors or numbers, by a condition; 0 is 0 in every basis."""
    sides, terms, affine = [call.get("self"), call.get("other")], list[tuple[int, ...]](), False
    place = 1
    for side in sides:
        if isinstance(side, Value):
            terms += [] if side.zero else [(0, place)]
            place += 1
        else:
            affine |= bool(side)
    return Law(tuple(terms), within={0: Kind.PERMUTATION}, affine=affine) if terms else None


@rule(
    "aten.alpha_dropout",
    "aten.dropout",
    "aten.feature_alpha_dropout",
    "aten.feature_dropout",
    "aten.native_dropout",
)
def dropout(call: Call) -> None:
    """The same elements; in training mode, a random subset of them."""
    share, train = call["p"], call["train"]
    if share and train is not False:
        call.pin_all(DRAWS)
    else:
        pointwise(call)


@rule(
    "aten.alias",
    "aten.clone",
    "aten.contiguous",
    "aten.detach",
    "aten.lift_fresh",
    "aten.lift_fresh_copy",
    "aten.to",
    "aten._to_copy",
    "aten.type_as",
    ignores=("copy", "other"),
)
def copy(call: Call) -> None:
    """The same elements; a second tensor only gives the dtype. Known elements of a constant stay known."""
    x = next(call.tensors())
    keeps_numbers = call.arguments.get("dtype") in WIDE and "other" not in call.arguments
    for (old,), (new,) in call.with_picks([x], [call.out]) if keeps_numbers else [([x], [call.out])]:
        call.relate("... -> ...", old, new, law=SAME)
    call.out.data, call.out.zero = x.data, x.zero


@rule("aten.prelu")
def prelu(call: Call) -> None:
    """A slope for each channel, or one for all."""
    shared = call["weight"].shape in ((), (1,))
    rest = " ".join(f"t{k}" for k in range(len(call.out.shape) - 2))
    pattern = "..., ... -> ..." if shared else f"b c {rest}, c -> b c {rest}"
    values = [call["self"], call["weight"], call.out]
    call.relate(pattern, *values, law=Law(((0,),), within={0: Kind.SCALED, 1: Kind.PERMUTATION}))


@rule(
    "aten.empty",
    "aten.empty_like",
    "aten.full",
    "aten.full_like",
    "aten.new_empty",
    "aten.new_full",
    "aten.new_ones",
    "aten.new_zeros",
    "aten.ones",
    "aten.ones_like",
    "aten.scalar_tensor",
    "aten.zeros",
    "aten.zeros_like",
    ignores=("fill_value", "s", "self", "size"),
)
def uniform(call: Call) -> None:
    """All elements are equal, so every permutation of every axis leaves the result unchanged."""
    op = call.source.op.removeprefix("aten.")
    fill = call.get("fill_value", call.get("s", 0 if "zeros" in op else None))
    for out in call.outs:
        out.zero = isinstance(fill, int | float) and fill == 0
        call.relate("...", out, law=SAME if out.zero or "empty" in op else FILLED)


@rule(
    "aten._assert_tensor_metadata",
    "aten._assert_async",
    "aten._assert_scalar",
    "aten.sym_size",
    "aten.sym_numel",
    ignores=("a", "assert_msg", "dim", "self", "size", "stride"),
)
def assertion(call: Call) -> None:
    """Nothing is computed."""
