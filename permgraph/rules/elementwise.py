"""Operations that treat every element alike: pointwise functions, copies, constructors of uniform tensors."""

import torch

from permgraph.algebra.kinds import Kind
from permgraph.algebra.laws import EVEN, HOMOGENEOUS, LINEAR, ODD, SAME, SQUARE, Law, product_of, sum_of
from permgraph.rules.registry import DRAWS, Call, rule

SUMS = ("add", "rsub", "sub", "subtract")
PRODUCTS = ("mul", "multiply")
QUOTIENTS = ("div", "divide", "true_divide")
FUNCTIONS = (
    dict.fromkeys(("alpha_dropout", "dropout", "feature_dropout", "neg", "negative", "positive"), LINEAR)
    | dict.fromkeys(("arcsinh", "arctan", "asinh", "atan", "erf", "sgn", "sign", "sin", "sinh", "tan", "tanh"), ODD)
    | dict.fromkeys(("abs", "absolute", "cos", "cosh"), EVEN)
    | {"leaky_relu": HOMOGENEOUS, "relu": HOMOGENEOUS, "special_erf": ODD, "square": SQUARE}
)
"""Pointwise functions of one tensor that allow more than permutations."""
SCALARS = (
    *("a", "alpha", "atol", "b", "equal_nan", "i", "nan", "neginf", "other", "posinf", "rounding_mode", "rtol", "self"),
    *("value", "x"),
)
"""Numbers that a pointwise operation takes for all elements alike."""

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
    if op == "pow" and count == 1 and call.get("exponent") == 2:
        return SQUARE
    if op == "masked_fill" and count == 2 and not call.get("value"):
        return Law(((0, 1),), within={1: Kind.PERMUTATION})
    if op == "where" and count == 3:
        return Law(((0, 1), (0, 2)), within={0: Kind.PERMUTATION})
    return None


@rule(
    "aten.alpha_dropout",
    "aten.dropout",
    "aten.feature_alpha_dropout",
    "aten.feature_dropout",
    "aten.native_dropout",
)
def dropout(call: Call) -> None:
    """The same elements; while training, some of them chosen by chance."""
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
    """The same elements, of which a second tensor gives the dtype alone; what is known of a constant stays known."""
    x = next(call.tensors())
    keeps_numbers = call.arguments.get("dtype") in WIDE and "other" not in call.arguments
    for old, new in call.with_picks(x, call.out) if keeps_numbers else [(x, call.out)]:
        call.relate("... -> ...", old, new, law=SAME)
    call.out.data = x.data


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
    """All elements are equal, so that every permutation of every axis leaves the result alone."""
    for out in call.outs:
        call.relate("...", out)


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
