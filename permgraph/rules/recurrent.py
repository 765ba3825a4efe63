"""Recurrent layers: hidden units move together through every gate, the state and the output."""

from __future__ import annotations

from collections.abc import Iterable

from permgraph.algebra.kinds import Kind
from permgraph.algebra.laws import LINEAR, Law
from permgraph.algebra.relations import Value
from permgraph.rules.registry import DRAWS, Call, rule
from permgraph.rules.segments import join, slice_of

GATES = {"aten.lstm": 4, "aten.gru": 3, "aten.rnn_tanh": 1, "aten.rnn_relu": 1}
BENDS = {"aten.rnn_tanh": Kind.SIGNED, "aten.rnn_relu": Kind.SCALED}
PINS = {"q": "the gates of a recurrent layer", "t": "time steps have an order"}


@rule("aten.lstm", "aten.gru", "aten.rnn_tanh", "aten.rnn_relu")
def recurrent(call: Call) -> None:
    """h' = f(W x + U h), rows of W and U as (gate, unit); every layer and direction has its own units."""
    if "input" not in call.arguments:
        call.pin_all("a packed sequence")
        return
    share, train = call["dropout"], call["train"]
    if share and train:
        call.pin_all(DRAWS)
        return
    directions = 2 if call["bidirectional"] else 1
    each = len(call["params"]) // (call["num_layers"] * directions)
    weights = [call["params"][k : k + each] for k in range(0, len(call["params"]), each)]
    states = call["hx"] if isinstance(call["hx"], list | tuple) else [call["hx"]]
    finals: list[list[Value]] = [[] for _ in states]
    x = call["input"]
    for layer in range(call["num_layers"]):
        width = states[0].shape[-1]
        outs = []
        for number in range(layer * directions, (layer + 1) * directions):
            outs.append(call.part((*x.shape[:-1], width)))
            before = [slice_of(call, state, 0, number, 1) for state in states]
            for part, state in zip(before, states, strict=True):
                part.zero = state.zero
            after = [call.part(state.shape) for state in before]
            _direction(call, x, weights[number], before, [outs[-1], *after])
            for final, value in zip(finals, after, strict=True):
                final.append(value)
        last = layer == call["num_layers"] - 1
        whole = call.out if last else call.part((*x.shape[:-1], width * directions))
        join(call, whole, -1, outs)
        x = whole
    for out, final in zip(call.outs[1:], finals, strict=True):
        join(call, out, 0, final)


def _direction(call: Call, x: Value, weights: list[Value], before: list[Value], after: list[Value]) -> None:
    """One layer in one direction: `before` and `after` are (h,) or (h, c), after the sequence of outputs."""
    batch = "b" if len(x.shape) == 3 else ""
    lead = f"{batch} t" if call["batch_first"] else f"t {batch}"
    projected = len(weights) % 2 == 1
    last = call.part(after[0].shape)  # the outputs of the step before, on which U acts
    call.relate("... -> ...", after[0], last, law=LINEAR)
    start = 2 + len(weights)
    told = (start + k for k, state in enumerate(before) if not state.zero)
    y = "p" if projected else "h"
    gated = ["(q h) i", "(q h) r", "(q h)", "(q h)"][: 4 if call["has_biases"] else 2] + ["p h"] * projected
    states = [f"one {batch} {y}", f"one {batch} h"][: len(before)]
    call.relate(
        f"{', '.join([f'{lead} i', f'{lead} r', *gated, *states])} -> {', '.join([f'{lead} {y}', *states])}",
        *(x, last, *weights, *before, *after),
        sizes={"q": GATES[call.source.op]},
        pin=PINS,
        law=_laws(call.source.op, w=2, sums=[*range(2, start), *told], result=start + len(before), read=True),
    )
    if call["has_biases"] and call.source.op != "aten.gru":  # which multiplies one of its two biases by a gate
        call.relations[-1].twins[4] = 5


def _laws(op: str, *, w: int, sums: Iterable[int], result: int, read: bool) -> dict[str, Law]:
    """The laws of the inputs and, where there are no gates, of the units in f(W x + U h).

    `w` is the position of W, which U follows; `sums` those of what has a row for each unit; `result` that of the first
    result; `read`: whether U reads a state that is not 0.
    """
    laws = {"i": Law(((0, w),))}
    if op in BENDS:
        laws["r"] = Law(((1, w + 1),)) if read else Law(loose=True)
        laws["h"] = Law(tuple((k,) for k in sums), within={result: BENDS[op]})
    return laws


@rule("aten.lstm_cell", "aten.gru_cell", "aten.rnn_tanh_cell", "aten.rnn_relu_cell")
def cell(call: Call) -> None:
    """One step of a recurrent layer; a GRU mixes its state `h` into the result, the others read it through U only."""
    h, *memory = call["hx"] if isinstance(call["hx"], list | tuple) else [call["hx"]]
    biases = [value for value in (call["b_ih"], call["b_hh"]) if value is not None]
    operands = ["... i", "... r", *["... h"] * len(memory), "(q h) i", "(q h) r", *["(q h)"] * len(biases)]
    kind = call.source.op.removesuffix("_cell")
    call.relate(
        f"{', '.join(operands)} -> {', '.join(['... h'] * len(call.outs))}",
        *(call["input"], h, *memory, call["w_ih"], call["w_hh"], *biases, *call.outs),
        sizes={"q": GATES[kind]},
        pin=PINS,
        law=_laws(kind, w=2 + len(memory), sums=range(2, len(operands)), result=len(operands), read=not h.zero),
    )
    if len(biases) == 2 and call.source.op != "aten.gru_cell":
        call.relations[-1].twins[4 + len(memory)] = 5 + len(memory)
    if call.source.op == "aten.gru_cell":
        call.relate("... -> ...", h, call.out)
