"""Recurrent layers: hidden units move together through every gate, the state and the output."""

from __future__ import annotations

from collections.abc import Sequence

from permgraph.algebra.kinds import Kind
from permgraph.algebra.laws import LINEAR, LOOSE, Law
from permgraph.algebra.relations import Value
from permgraph.rules.registry import DRAWS, Call, rule
from permgraph.rules.segments import join, slice_of

FORMS = {
    "aten.lstm": (4, 2, Kind.SIGNED),
    "aten.gru": (3, 2, Kind.SIGNED),
    "aten.rnn_tanh": (1, 0, Kind.SIGNED),
    "aten.rnn_relu": (1, 0, Kind.SCALED),
}
"""Operation -> how many blocks of rows its weights have, which of them is g, and how f may change g."""
INSIDE = {"aten.lstm": (("input", "forget", "output"), ("cell",)), "aten.gru": (("reset", "update"), ("candidate",))}
"""Operation -> the labels of tensors inside whose units keep their sign, and of those whose units may change it."""
PINS = {"t": "time steps have an order"}
Written = tuple[str, Value]
"""A tensor with its axes in the notation of relations."""


@rule("aten.lstm", "aten.gru", "aten.rnn_tanh", "aten.rnn_relu", ignores=("dropout", "has_biases", "train"))
def recurrent(call: Call) -> None:
    """h' = f(W x + U h), with rows of W and U for each gate; every direction has its own units.

    Layers are operations of their own (`permgraph.tracing.stacked`), unless units are dropped between them.
    """
    if "input" not in call.arguments:
        call.pin_all("a packed sequence")
        return
    if call["num_layers"] > 1:
        call.pin_all(DRAWS)
        return
    x, hx, params = call["input"], call["hx"], call["params"]
    states, count = hx if isinstance(hx, list | tuple) else [hx], 2 if call["bidirectional"] else 1
    made = []
    for number in range(count):
        before = [slice_of(call, state, 0, number, 1) for state in states]
        for part, state in zip(before, states, strict=True):
            part.zero = state.zero
        after = [call.part((*x.shape[:-1], states[0].shape[-1])), *(call.part(part.shape) for part in before)]
        own = params[number * len(params) // count :][: len(params) // count]
        inside = _inside(call, (*x.shape[:-1], before[-1].shape[-1]), number)
        _direction(call, x, own, before, after, inside)
        made.append(after)
    for k, parts in enumerate(zip(*made, strict=True)):
        join(call, call.outs[k], 0 if k else -1, parts)


def _inside(call: Call, shape: Sequence[int], number: int) -> list[list[Value]]:
    labels = INSIDE.get(call.source.op, ((), ()))
    return [[call.part(shape, f"{label}{number}") for label in some] for some in labels]


def _direction(
    call: Call, x: Value, weights: list[Value], before: list[Value], after: list[Value], inside: list[list[Value]]
) -> None:
    """One direction: `before` and `after` are (h,) or (h, c), after the sequence of outputs; `inside`: as `INSIDE`."""
    batch = "b" if len(x.shape) == 3 else ""
    lead = f"{batch} t" if call["batch_first"] else f"t {batch}"
    last = call.part(after[0].shape)  # the outputs of the step before, on which U acts
    y = "p" if len(weights) % 2 else "h"
    states = [f"one {batch} {y}", f"one {batch} h"][: len(before)]
    old, new = zip(states, before, strict=True), zip([f"{lead} {y}", *states], after, strict=True)
    kept, changed = ([(f"{lead} h", one) for one in some] for some in inside)
    _step(call, [(f"{lead} i", x), (f"{lead} r", last)], weights, [*old], [*new, *changed], kept)
    call.relate("... -> ...", after[0], last, law=LINEAR)


@rule("aten.lstm_cell", "aten.gru_cell", "aten.rnn_tanh_cell", "aten.rnn_relu_cell")
def cell(call: Call) -> None:
    """One step of a recurrent layer; a GRU mixes its state `h` into the result, the others read it through U only."""
    h, *memory = call["hx"] if isinstance(call["hx"], list | tuple) else [call["hx"]]
    weights = [value for value in (call["w_ih"], call["w_hh"], call["b_ih"], call["b_hh"]) if value is not None]
    old, new = ([h] if call.source.op == "aten.gru_cell" else memory), call.outs
    read = [("... i", call["input"]), ("... r", h)]
    _step(call, read, weights, [("... h", one) for one in old], [("... h", one) for one in new])


def _step(
    call: Call, read: list[Written], weights: list[Value], old: list[Written], new: list[Written],
    kept: Sequence[Written] = (),
) -> None:  # fmt: skip
    """h' = f(g), of a GRU (1 - z) ⊙ f(g) + z ⊙ h; of an LSTM c' = σ(f) ⊙ c + σ(i) ⊙ f(g) and h' = P (σ(o) ⊙ tanh(c')).

    Each of the gates and g is W x + U h plus biases, with rows of its own. A unit's row of g may change its sign, or
    with ReLU its scale, along with the unit's states; its rows of the gates may not. `read` are x and h, `kept` what is
    bounded as the gates are.
    """
    kind = call.source.op.removesuffix("_cell")
    gates, bent, bound = FORMS[kind]
    count, size = len(weights) // 2 * 2, weights[0].shape[0] // gates
    after = 2 + gates * count
    first = range(2, after, count)  # the W of each gate, which its U and biases follow
    rows = [
        (name, slice_of(call, one, 0, k * size, size) if gates > 1 else one)
        for k in range(gates)
        for name, one in zip(("h i", "h r", "h", "h"), weights[:count], strict=False)
    ]
    given = [*read, *rows, *(("p h", one) for one in weights[count:]), *old]
    own = range(first[bent], first[bent] + count)
    added = [*own, *(k for k in range(after, len(given)) if not given[k][1].zero)]
    given += kept
    within = dict.fromkeys({*range(2, after), *range(len(given) - len(kept), len(given))} - {*own}, Kind.PERMUTATION)
    within |= dict.fromkeys(range(len(given), len(given) + len(new)), bound)
    laws = {
        "i": Law(tuple((0, k) for k in first)),
        "r": LOOSE if read[1][1].zero else Law(tuple((1, k + 1) for k in first)),
        "h": Law(tuple((k,) for k in added if "h" in given[k][0].split()), within=within),
        "p": Law(tuple((k,) for k in added if "p" in given[k][0].split())),
    }
    names, results = (", ".join(name for name, _ in some) for some in (given, new))
    values = (value for _, value in [*given, *new])
    call.relate(f"{names} -> {results}", *values, pin=PINS, law=laws)
    if count == 4:  # the two biases of a sum; a GRU multiplies one of those of g by a gate
        call.relations[-1].twins.update({k + 2: k + 3 for k in first if kind != "aten.gru" or k != own[0]})
