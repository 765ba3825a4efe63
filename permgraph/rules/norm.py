"""Normalisations: statistics are formed over some axes, a scale and a shift are applied on others."""

from collections.abc import Sequence
from dataclasses import replace

from permgraph.algebra.kinds import Kind
from permgraph.algebra.laws import (
    ABSOLUTE,
    CENTRED,
    DISTANCE,
    HOMOGENEOUS,
    LINEAR,
    POSITION,
    Law,
    normalised,
    product_of,
    to_the,
)
from permgraph.algebra.relations import Value
from permgraph.rules.registry import Call, axis_list, letters, rule

NORM_OF = Law(((0, 0),))
SHIFTED = Law(((0, 1), (0, 0), (1, 1)), within={0: Kind.CENTRED, 1: Kind.CENTRED})  # eps is added to each element
REDUCED = {
    "aten.linalg_vector_norm": NORM_OF,
    "aten.frobenius_norm": NORM_OF,
    "aten.linalg_norm": NORM_OF,
    "aten.norm": NORM_OF,
    "aten.mean": LINEAR,
    "aten.sum": LINEAR,
    "aten.std": CENTRED,
    "aten.std_mean": CENTRED,
    "aten.var": CENTRED,
    "aten.var_mean": CENTRED,
}
BESIDE = {
    **dict.fromkeys(("aten.linalg_vector_norm", "aten.frobenius_norm", "aten.linalg_norm", "aten.norm"), ABSOLUTE),
    **dict.fromkeys(("aten.mean", "aten.sum"), LINEAR),
    **dict.fromkeys(("aten.amax", "aten.amin", "aten.kthvalue", "aten.max", "aten.median", "aten.min"), HOMOGENEOUS),
    "aten.std": replace(ABSOLUTE, whole=True),
    "aten.var": replace(to_the(2), whole=True),
}
"""What a reduction allows on the axes that it keeps."""


def _with_affine(call: Call, main: str, affine: str, *parameters: Value | None, stats: str, law: Law) -> None:
    """Relate input and output by `main`, each given parameter by `affine`, and the statistics by `stats`.

    `law` holds for the variables that are scaled and shifted.
    """
    given = [value for value in parameters if value is not None]
    operands = ", ".join([main] + [affine] * len(given))
    laws = dict.fromkeys(affine.split(), law)
    if law.within.get(0) is Kind.MONOMIAL:  # each element by itself, with stored statistics
        laws |= {name: Law(law.terms) for name in main.split() if name not in laws}
    call.relate(f"{operands} -> {main} | {stats}", next(call.tensors()), *given, call.out, law=laws)


def _centre(call: Call, names: str) -> None:
    """A norm that subtracts the mean ignores a constant along its axes, and the sum of its result is constant."""
    relation = call.relations[-1]
    relation.ignored[0] = relation.steady = frozenset(names.split())


def _layer_law(call: Call, bias: Value | None) -> Law:
    kind = Kind.CENTRED if "layer_norm" in call.source.op else Kind.ORTHOGONAL
    return normalised(kind, call["weight"] is not None, bias is not None)


def _channel_law(parameters: Sequence[Value | None], *, of_input: bool) -> Law:
    """(x - mean) / deviation * weight + bias, with a deviation of the input or a stored one, that eps makes rigid."""
    places = iter(range(1, 5))
    weight, bias, mean, variance = (None if value is None else next(places) for value in parameters)
    scale = () if weight is None else (weight,)
    terms = [(0, *scale)] + [(bias,)] * (bias is not None) + [(mean, *scale)] * (mean is not None)
    within = {0: Kind.SIGNED if of_input else Kind.MONOMIAL}
    within |= {} if variance is None else {variance: Kind.PERMUTATION}
    return Law(tuple(terms), within=within, whole=of_input)


@rule("aten.layer_norm", "aten.rms_norm", ignores=("cudnn_enable", "eps"))
def layer_norm(call: Call) -> None:
    """Statistics over the last axes, which a weight and a bias scale and shift."""
    last = " ".join(letters(len(call["normalized_shape"]), "n"))
    bias = call["bias"] if call.source.op == "aten.layer_norm" else None
    _with_affine(call, f"... {last}", last, call["weight"], bias, stats="...", law=_layer_law(call, bias))
    if "layer_norm" in call.source.op:
        _centre(call, last)


@rule("aten.native_layer_norm", newer=("aten._fused_rms_norm",), ignores=("eps",))
def native_layer_norm(call: Call) -> None:
    """As `layer_norm`, with the statistics as further outputs."""
    last = " ".join(letters(len(call["normalized_shape"]), "n"))
    bias = call["bias"] if "layer_norm" in call.source.op else None
    _with_affine(call, f"... {last}", last, call["weight"], bias, stats="...", law=_layer_law(call, bias))
    if "layer_norm" in call.source.op:
        _centre(call, last)
    for out, used in zip(call.outs[1:], call.used[1:], strict=True):
        if used:
            call.relate(f"... {last} -> ...{' ()' * len(last.split())}", call["input"], out)


@rule("aten.group_norm", ignores=("cudnn_enabled", "eps"))
def group_norm(call: Call) -> None:
    """Statistics over the channels of each group and all positions."""
    space = " ".join(letters(len(call["input"].shape) - 2, "t"))
    given = [value for value in (call["weight"], call["bias"]) if value is not None]
    operands = ", ".join([f"b (g c) {space}"] + ["(g c)"] * len(given))
    call.relate(
        f"{operands} -> b (g c) {space} | b g",
        call["input"],
        *given,
        call.out,
        sizes={"g": call["num_groups"]},
        law={"c": normalised(Kind.CENTRED, call["weight"] is not None, call["bias"] is not None)},
    )
    call.relations[-1].ignored[0] = frozenset(["c", *space.split()])


@rule(
    "aten.batch_norm",
    "aten._native_batch_norm_legit_no_training",
    "aten.native_batch_norm",
    ignores=("cudnn_enabled", "eps", "momentum"),
)
def batch_norm(call: Call) -> None:
    """A scale and a shift for each channel, from running statistics or from the batch."""
    if len(call["input"].shape) < 2:
        call.pin_all("a batch without channels")
        return
    space = " ".join(letters(len(call["input"].shape) - 2, "t"))
    parameters = (call["weight"], call["bias"], call["running_mean"], call["running_var"])
    of_batch = call.get("training", False) or call["running_var"] is None
    law = _channel_law(parameters, of_input=of_batch)
    _with_affine(call, f"b c {space}", "c", *parameters, stats="c", law=law)
    if of_batch:
        call.relations[-1].ignored[0] = frozenset(["b", *space.split()])
    for out, used in zip(call.outs[1:], call.used[1:], strict=False):
        if used and out.shape != (0,):
            call.relate(f"b c {space} -> c", call["input"], out)


@rule("aten.instance_norm", ignores=("cudnn_enabled", "eps", "momentum"))
def instance_norm(call: Call) -> None:
    """Statistics over the positions of each channel of each sample."""
    space = " ".join(letters(len(call["input"].shape) - 2, "t"))
    parameters = (call["weight"], call["bias"], call["running_mean"], call["running_var"])
    law = _channel_law(parameters, of_input=call["use_input_stats"])
    _with_affine(call, f"b c {space}", "c", *parameters, stats="b c", law=law)
    if call["use_input_stats"]:
        call.relations[-1].ignored[0] = frozenset(space.split())


@rule("aten._weight_norm")
def weight_norm(call: Call) -> None:
    """w = g v / |v|, the norm over all axes but `dim`; `g` has size 1 on these, or is one number."""
    v, rank = call["v"], len(call["v"].shape)
    kept = axis_list(call["dim"], rank) if call["dim"] != -1 else []
    names = letters(rank)
    full, rest = " ".join(names), " ".join(names[k] for k in kept)
    size = full if call["g"].shape else ""
    norm = call.part([v.shape[k] for k in kept])
    call.relate(f"{full} -> {rest}", v, norm, law={n: ABSOLUTE if k in kept else NORM_OF for k, n in enumerate(names)})
    scaled = product_of(3, frozenset({2}))
    call.relate(f"{full}, {size}, {rest} -> {full}", v, call["g"], norm, call.out, law=dict.fromkeys(names, scaled))


@rule(
    "aten.softmax",
    "aten._softmax",
    "aten.log_softmax",
    "aten._log_softmax",
    "aten._safe_softmax",
    ignores=("half_to_float",),
)
def softmax(call: Call) -> None:
    """Pointwise except for a sum over `dim`."""
    _normalised(call, [call["dim"]])


def _normalised(call: Call, dims: list[int]) -> None:
    x = call["self"]
    names = letters(len(x.shape))
    over = axis_list(dims, len(names))
    full, rest = " ".join(names), " ".join(name for k, name in enumerate(names) if k not in over)
    call.relate(f"{full} -> {full} | {rest}", x, call.out)
    relation = call.relations[-1]
    relation.ignored[0] = frozenset(name for k, name in enumerate(names) if k in over)
    if call.source.op in ("aten.softmax", "aten._softmax"):  # the sum of a safe softmax may be 0
        relation.steady = relation.ignored[0]


@rule(
    "aten.all",
    "aten.amax",
    "aten.amin",
    "aten.any",
    "aten.count_nonzero",
    "aten.linalg_vector_norm",
    "aten.logsumexp",
    "aten.frobenius_norm",
    "aten.kthvalue",
    "aten.linalg_norm",
    "aten.max",
    "aten.mean",
    "aten.median",
    "aten.min",
    "aten.nansum",
    "aten.norm",
    "aten.prod",
    "aten.std",
    "aten.std_mean",
    "aten.sum",
    "aten.var",
    "aten.var_mean",
    ignores=("correction", "k", "keepdim", "p", "unbiased"),
)
def reduction(call: Call) -> None:
    """A symmetric function of the elements along some axes; the others remain."""
    x = call["self"]
    if len(list(call.tensors())) > 1:
        law = Law(((0,), (1,)), within={0: Kind.SCALED, 1: Kind.SCALED})
        call.relate("..., ... -> ...", *call.tensors(), call.out, law=law)  # maximum of two tensors
        return
    names = letters(len(x.shape))
    over = axis_list(call.get("dim"), len(names))
    kept = [name for k, name in enumerate(names) if k not in over]
    is_matrix = len(over) == 2 and call.get("ord") not in (None, "fro")  # rows and columns play different roles
    hidden = " | " + ", ".join(" ".join([*kept, names[k]]) for k in over) if is_matrix else ""
    for k, out in enumerate(call.outs):
        written = names if len(out.shape) == len(names) else kept
        laws = _reduced(call, names, over, k)
        call.relate(f"{' '.join(names)} -> {' '.join(written)}{hidden}", x, out, law=laws)
    positions = ("aten.kthvalue", "aten.max", "aten.median", "aten.min")
    if call.source.op in positions and len(call.outs) > 1 and call.used[1]:
        _numbered(call, call.outs[1], over)


def _reduced(call: Call, names: list[str], over: list[int], result: int) -> dict[str, Law]:
    """The laws of the axes that are reduced, and of the others; a second result holds positions."""
    law, beside = REDUCED.get(call.source.op), BESIDE.get(call.source.op)
    if law is NORM_OF and call.get("ord", call.get("p", 2)) not in (None, 2, "fro"):
        law = None
    if len(over) > 1 and call.get("ord") == 2:  # the largest singular value
        law = None
    if call.get("ord", call.get("p")) == 0:  # a count
        beside = None
    if result and beside is HOMOGENEOUS:
        beside = POSITION
    given = [law if k in over else beside for k in range(len(names))]
    return {name: one for name, one in zip(names, given, strict=True) if one is not None}


@rule("aten.argmax", "aten.argmin", ignores=("keepdim",))
def argument_of_extremum(call: Call) -> None:
    """Positions along `dim`."""
    x = call["self"]
    names = letters(len(x.shape))
    over = axis_list(call["dim"], len(names))
    kept = [name if k not in over else "()" for k, name in enumerate(names)]
    if len(call.out.shape) < len(names):
        kept = [name for name in kept if name != "()"]
    laws = {name: POSITION for k, name in enumerate(names) if k not in over}
    call.relate(f"{' '.join(names)} -> {' '.join(kept)}", x, call.out, law=laws)
    _numbered(call, call.out, over)


def _numbered(call: Call, out: Value, over: Sequence[int]) -> None:
    """The elements of `out` are numbers of units along one axis of `self`, such as those of the largest."""
    x = call["self"]
    if len(over) != 1 or not x.shape:
        call.pin(x, "the position of the extremum is used", over if x.shape else [])
        return
    names = letters(len(x.shape))
    kept = [name if k not in over else "()" for k, name in enumerate(names)]
    if len(out.shape) < len(names):
        kept = [name for name in kept if name != "()"]
    laws = {name: POSITION for k, name in enumerate(names) if k not in over}
    picked = call.pick(out, x.shape[over[0]])
    call.relate(f"{' '.join(names)} -> {' '.join([*kept, names[over[0]]])}", x, picked, law=laws)


@rule("aten.cosine_similarity", "aten.pairwise_distance", ignores=("eps", "keepdim"))
def compared(call: Call) -> None:
    """A sum over one axis of two tensors, the last for a distance."""
    a, b = call.tensors()
    names = letters(max(len(a.shape), len(b.shape)))
    dim = call.get("dim", -1)
    if len(a.shape) != len(b.shape) or not names:
        call.pin_all("tensors of different ranks are compared")
        return
    kept = [name for k, name in enumerate(names) if k != dim % len(names)]
    written = names if len(call.out.shape) == len(names) else kept
    full = " ".join(names)
    law = DISTANCE if call.source.op == "aten.cosine_similarity" else SHIFTED if call.get("p", 2) == 2 else None
    laws = {names[dim % len(names)]: law} if law is not None else None
    call.relate(f"{full}, {full} -> {' '.join(written)}", a, b, call.out, law=laws)
