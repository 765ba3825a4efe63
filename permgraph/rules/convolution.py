"""Convolutions: channels split into groups; kernel and space keep their order."""

from collections.abc import Sequence

from permgraph.algebra.laws import HOMOGENEOUS, LINEAR, PRODUCT, WITH_BIAS
from permgraph.algebra.relations import Value
from permgraph.rules.registry import Call, rule

KERNEL = "the positions of a convolution's kernel have an order"
SPACE = "positions are convolved in their order"
GEOMETRY = (
    "ceil_mode",
    "count_include_pad",
    "dilation",
    "kernel_size",
    "output_padding",
    "output_size",
    "padding",
    "stride",
)
SCALES = ("align_corners", "scale_factors", "scales", "scales_d", "scales_h", "scales_w")
BACKEND = ("allow_tf32", "benchmark", "cudnn_enabled", "deterministic")
"""Arguments that act on positions alone, which are pinned, and those that choose an algorithm."""


def _space(rank: int, *, pointwise: bool) -> tuple[str, str, str, dict[str, str]]:
    """Variables of input positions, kernel positions and output positions, and what pins them."""
    t, k, u = ([f"{name}{axis}" for axis in range(rank)] for name in "tku")
    if pointwise:
        u = t
    pins = {} if pointwise else dict.fromkeys(k, KERNEL) | dict.fromkeys([*t, *u], SPACE)
    return " ".join(t), " ".join(k), " ".join(u), pins


def _convolve(call: Call, weight: str, groups: int, *, pointwise: bool) -> None:
    x, w, bias = call["input"], call["weight"], call["bias"]
    rank = len(w.shape) - 2
    t, k, u, pins = _space(rank, pointwise=pointwise)
    lead = "b " if len(x.shape) == rank + 2 else ""
    operands, values = [f"{lead}(g i) {t}", weight.format(k=k)], [x, w]
    if bias is not None:
        operands.append("(g o)")
        values.append(bias)
    law = PRODUCT if bias is None else WITH_BIAS
    laws = dict.fromkeys("bgio", law)
    per_group = w.shape[1] if weight.startswith("(g o)") else w.shape[0] // groups
    sizes = {"g": groups, "i": per_group}
    call.relate(f"{', '.join(operands)} -> {lead}(g o) {u}", *values, call.out, pin=pins, sizes=sizes, law=laws)
    call.relations[-1].freeze()


def _is_pointwise(call: Call, x: Value, w: Value) -> bool:
    """Whether the kernel has size 1 and positions do not change."""
    rank = len(w.shape) - 2
    keeps = _all(call["stride"], 1) and (call["padding"] in ("valid", "same") or _all(call["padding"], 0))
    return keeps and set(w.shape[2:]) <= {1} and x.shape[-rank:] == call.out.shape[-rank:]


def _all(given: int | Sequence[int], number: int) -> bool:
    return set([given] if isinstance(given, int) else given) == {number}


@rule("aten.conv1d", "aten.conv2d", "aten.conv3d", ignores=GEOMETRY)
def convolution(call: Call) -> None:
    """y[(g o), u] = Σ over i, k of W[(g o), i, k] x[(g i), u + k]."""
    _convolve(call, "(g o) i {k}", call["groups"], pointwise=_is_pointwise(call, call["input"], call["weight"]))


@rule("aten.conv_transpose1d", "aten.conv_transpose2d", "aten.conv_transpose3d", ignores=GEOMETRY)
def transposed_convolution(call: Call) -> None:
    """y[(g o), u + k] += W[(g i), o, k] x[(g i), u]."""
    _convolve(call, "(g i) o {k}", call["groups"], pointwise=False)


@rule("aten.convolution", "aten._convolution", ignores=(*GEOMETRY, *BACKEND))
def general_convolution(call: Call) -> None:
    """Either of the two, by the argument `transposed`."""
    _convolve(call, "(g i) o {k}" if call["transposed"] else "(g o) i {k}", call["groups"], pointwise=False)


@rule(
    "aten._adaptive_avg_pool2d",
    "aten._adaptive_avg_pool3d",
    "aten._upsample_bicubic2d_aa",
    "aten._upsample_bilinear2d_aa",
    "aten._upsample_nearest_exact2d",
    "aten.adaptive_avg_pool1d",
    "aten.adaptive_avg_pool2d",
    "aten.adaptive_avg_pool3d",
    "aten.adaptive_max_pool1d",
    "aten.adaptive_max_pool2d",
    "aten.adaptive_max_pool3d",
    "aten.avg_pool1d",
    "aten.avg_pool2d",
    "aten.avg_pool3d",
    "aten.max_pool1d",
    "aten.max_pool2d",
    "aten.max_pool3d",
    "aten.upsample_bicubic2d",
    "aten.upsample_bilinear2d",
    "aten.upsample_linear1d",
    "aten.upsample_nearest1d",
    "aten.upsample_nearest2d",
    "aten.upsample_nearest3d",
    "aten.upsample_trilinear3d",
    ignores=(*GEOMETRY, *SCALES, "divisor_override"),
)
def pooling(call: Call) -> None:
    """Acts on positions, on each channel alike; a reduction over all positions pins nothing."""
    x = next(call.tensors())
    rank = int(next(mark for mark in reversed(call.source.op) if mark.isdigit()))
    t, _, u, pins = _space(rank, pointwise=False)
    whole = "adaptive_avg" in call.source.op and set(call.out.shape[-rank:]) == {1}
    for out in call.outs:
        law = HOMOGENEOUS if "max_pool" in call.source.op else LINEAR
        call.relate(f"... {t} -> ... {u}", x, out, pin={} if whole else pins, law={"...": law})
        call.relations[-1].freeze()


@rule("aten.grid_sampler", "aten.grid_sampler_2d", ignores=(*SCALES, "interpolation_mode", "padding_mode"))
def grid_sample(call: Call) -> None:
    """Samples positions; channels pass through."""
    t, _, u, pins = _space(len(call.out.shape) - 2, pointwise=False)
    pins["place"] = SPACE
    call.relate(f"b c {t}, b {u} place -> b c {u}", *call.tensors(), call.out, pin=pins, law={"c": LINEAR})


@rule("aten.im2col", ignores=GEOMETRY)
def unfold(call: Call) -> None:
    """Patches as columns: (channel, kernel position) × patch."""
    lead = "b " if len(call["self"].shape) == 4 else ""
    pins = dict.fromkeys(["h", "w", "k", "l"], SPACE)
    sizes = {"c": call["self"].shape[-3]}
    call.relate(f"{lead}c h w -> {lead}(c k) l", call["self"], call.out, pin=pins, sizes=sizes, law={"c": LINEAR})


@rule("aten.col2im", ignores=GEOMETRY)
def fold(call: Call) -> None:
    """The transpose of `im2col`."""
    lead = "b " if len(call["self"].shape) == 3 else ""
    pins = dict.fromkeys(["h", "w", "k", "l"], SPACE)
    sizes = {"c": call.out.shape[-3]}
    call.relate(f"{lead}(c k) l -> {lead}c h w", call["self"], call.out, pin=pins, sizes=sizes, law={"c": LINEAR})
