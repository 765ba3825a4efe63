"""Normalisations: statistics are formed over some axes, a scale and a shift are applied on others."""

from collections.abc import Sequence

from permgraph.algebra.kinds import Kind
from permgraph.algebra.laws import (
    ABSOLUTE,
    NORM_OF,
    Law,
    normalised,
    product_of,
)
from permgraph.algebra.relations import Value
from permgraph.rules.registry import Call, axis_list, letters, rule


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
