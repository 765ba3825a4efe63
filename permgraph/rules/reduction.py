"""Reductions: symmetric functions of the elements along some axes, extremes and their positions, distances."""

from collections.abc import Sequence
from dataclasses import replace

from permgraph.algebra.kinds import Kind
from permgraph.algebra.laws import (
    ABSOLUTE,
    CENTRED,
    DISTANCE,
    HOMOGENEOUS,
    LINEAR,
    NORM_OF,
    POSITION,
    Law,
    to_the,
)
from permgraph.algebra.relations import Value
from permgraph.rules.registry import Call, axis_list, letters, rule

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
KEPT = {
    **dict.fromkeys(("aten.linalg_vector_norm", "aten.frobenius_norm", "aten.linalg_norm", "aten.norm"), ABSOLUTE),
    **dict.fromkeys(("aten.mean", "aten.sum"), LINEAR),
    **dict.fromkeys(("aten.amax", "aten.amin", "aten.kthvalue", "aten.max", "aten.median", "aten.min"), HOMOGENEOUS),
    "aten.std": replace(ABSOLUTE, whole=True),
    "aten.var": replace(to_the(2), whole=True),
}
"""What a reduction allows on the axes that it keeps."""


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
    law, kept = REDUCED.get(call.source.op), KEPT.get(call.source.op)
    if law is NORM_OF and call.get("ord", call.get("p", 2)) not in (None, 2, "fro"):
        law = None
    if len(over) > 1 and call.get("ord") == 2:  # the largest singular value
        law = None
    if call.get("ord", call.get("p")) == 0:  # a count
        kept = None
    if result and kept is HOMOGENEOUS:
        kept = POSITION
    given = [law if k in over else kept for k in range(len(names))]
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
