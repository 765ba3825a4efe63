"""Specifications that are wrong at one place: the proof catches every one that changes the function."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
import zoo
from judge import error
from torch import Tensor, nn
from zoo_rows import Case

from permgraph import PermutationSpec, derive
from permgraph.algebra.kinds import Kind
from permgraph.symmetry.elements.cells import Cell, Leaf, Move
from permgraph.symmetry.elements.layout import Layout
from permgraph.symmetry.proof.verification import certify
from permgraph.tracing.capture import capture
from permgraph.tracing.run import bind

CLEAR = 1e-7  # an error of the model itself that is no rounding, in double precision
MOST = 12  # mutants of one model
LOWEST = float(torch.finfo(torch.float32).min)


class Attending(nn.Module):
    """Attention and a hidden layer; `sharp` scales the queries, `fill` replaces three of the eight outputs."""

    def __init__(self, sharp: float = 1.0, fill: float | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.sharp, self.fill = sharp, fill
        self.q, self.k, self.v, self.o = (nn.Linear(8, 8) for _ in range(4))
        self.up, self.down = nn.Linear(8, 6), nn.Linear(6, 8)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (f(x).unflatten(-1, (2, 4)).transpose(1, 2) for f in (self.q, self.k, self.v))
        mixed = nn.functional.scaled_dot_product_attention(self.sharp * q, k, v).transpose(1, 2).flatten(2)
        y = self.down(torch.sigmoid(self.up(x + self.o(mixed))))
        return y if self.fill is None else y.masked_fill(torch.arange(8) < 3, self.fill)


def attending(sharp: float = 1.0, fill: float | None = None) -> Case:
    return Case(Attending(sharp, fill).eval(), (torch.randn(3, 5, 8),))


def saturated() -> Case:
    """Nearly every unit of the hidden layer is at one of its ends."""
    case = attending()
    with torch.no_grad():
        case.model.up.weight.mul_(16)
    return case


def unfilled(case: Case) -> Case:
    """The same without numbers beside which the judge sees no other."""
    if not isinstance(case.model, Attending):
        return case
    model = copy.deepcopy(case.model)
    model.fill = None
    return replace(case, model=model)


OWN = {
    "masked logits": lambda: attending(fill=LOWEST),
    "attention near uniform": lambda: attending(1e-3),
    "saturated units": saturated,
}
QUICK = ("residual mlp", "rotary, grouped queries", "GroupNorm")
SLOW = (
    "gated mlp, chunk",
    "LSTM, 1 layers",
    "residual cnn",
    "grouped conv",
    "channel shuffle",
    "DenseNet",
    "U-Net",
    "attention, 3Hk",
    "QK-norm",
    "ALiBi",
    "windows",
    "HubertModel",
    "BertModel",
    "ViTModel",
    "SwinForImageClassification",
    "GPT2LMHeadModel",
    "LlamaForCausalLM",
    "T5ForConditionalGeneration",
    "MixtralForCausalLM",
)


KINDS = ("permutation", "signed", "all")
QUICK_KINDS = {("residual mlp", "all"), ("attention near uniform", "all")}


def models() -> Iterator[object]:
    rows = {row.name: row.build for row in zoo.ROWS} | OWN
    for name in (*OWN, *QUICK, *SLOW):
        for kinds in KINDS:
            quick = (kinds == KINDS[0] and name not in SLOW) or (name, kinds) in QUICK_KINDS
            yield pytest.param(rows[name], kinds, id=f"{name}-{kinds}", marks=() if quick else pytest.mark.slow)


def mutated(
    cell: Cell, groups: Mapping[str, object], kinds: Mapping[str, Kind] | None = None
) -> Iterator[tuple[Move, ...]]:
    """The moves of a cell with one wrong.

    It is dropped, on another axis, of another group of the same size and kind, the same in every row, or, in a group
    that does more than permute, the inverse.
    """
    for k, move in enumerate(cell.moves):
        kind = (kinds or {}).get(move.group, Kind.PERMUTATION)
        before, after = cell.moves[:k], cell.moves[k + 1 :]
        yield (*before, *after)
        if len(move.leaves) == 1:
            taken = {leaf for one in cell.moves for leaf in (*one.leaves, *(i for key in one.keys for i in key))}
            size = cell.leaves[move.leaves[0]].size
            for other, leaf in enumerate(cell.leaves):
                if other not in taken and leaf.size == size:
                    yield (*before, replace(move, leaves=(other,)), *after)
        if move.keys and not kind.mixes:
            yield (*before, replace(move, keys=tuple(() for _ in move.keys)), *after)
        for name, alike in groups.items():
            if name != move.group and alike == groups.get(move.group):
                yield (*before, replace(move, group=name), *after)
        if kind is not Kind.PERMUTATION:
            yield (*before, replace(move, power=-move.power), *after)


def mutants(spec: PermutationSpec, seed: int) -> list[tuple[str, PermutationSpec]]:
    """Specifications that differ from this one in one move on one tensor, drawn over all tensors."""
    plain = {group.name: (group.size, group.kind) for group in spec.groups if not group.depends_on}
    kinds = {group.name: Kind(group.kind) for group in spec.groups}
    found = []
    for name, layout in spec.layouts.items():
        for k, cell in enumerate(layout.cells):
            fused = plain if all(move.group in plain for move in cell.moves) else {}
            for moves in mutated(cell, fused, kinds):
                cells = (*layout.cells[:k], Cell(cell.offsets, cell.leaves, moves), *layout.cells[k + 1 :])
                wrong = replace(spec, layouts={**spec.layouts, name: Layout(layout.shape, cells)})
                found.append((f"{name}: {cell.moves} -> {moves}", wrong))
    return [found[k] for k in np.random.default_rng(seed).permutation(len(found))]


def judge_error(case: Case, spec: PermutationSpec) -> float:
    return max(error(case, spec, seed) for seed in (0, 1))


@pytest.mark.parametrize(("build", "kinds"), list(models()))
def test_every_mutant_that_changes_the_function_is_caught(build: Callable[[], Case], kinds: str) -> None:
    case = build()
    judged = unfilled(case)
    spec, program = derive(case.model, case.args, case.kwargs, kinds=kinds), capture(case.model, case.args, case.kwargs)
    inputs, state = bind(program, case.args, case.kwargs), case.model.state_dict()
    clear = max(CLEAR, 10 * judge_error(judged, spec))  # some models compute in single precision whatever is asked for
    wrong = (one for one in mutants(spec, 0) if judge_error(judged, one[1]) > clear)
    tried = list(islice(wrong, MOST))
    assert len(tried) > 5
    missed = [what for what, mutant in tried if certify(program, mutant, state, inputs)]
    assert missed == []


def test_mutants_are_of_all_kinds() -> None:
    leaves = (Leaf(0, 4, 1), Leaf(1, 2, 2), Leaf(1, 2, 1), Leaf(2, 4, 1))
    cell = Cell((0, 0, 0), leaves, (Move("a", (0,)), Move("b", (2,), ((1,),))))
    found = list(mutated(cell, {"a": 4, "c": 4}, {"b": Kind.SIGNED}))
    first, second = cell.moves
    assert found == [
        (second,),
        (Move("a", (3,)), second),
        (Move("c", (0,)), second),
        (first,),
        (first, Move("b", (2,), ((),))),
        (first, replace(second, power=-1)),
    ]
