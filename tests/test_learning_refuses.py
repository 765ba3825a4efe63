"""What learning and judging a merge cannot use is told of, by name, before anything is returned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from pairs import mlp, spread
from torch import Tensor, nn

import permgraph as pg

A, B = spread(mlp(), 1), spread(mlp(), 2)
MERGED = pg.merge(A, B)
X = [torch.randn(64, 5, generator=torch.Generator().manual_seed(k)) for k in range(12)]
OPTIONS: Mapping[str, Any] = {"steps": 40, "rate": 1e-2}


class Bounded(nn.Module):
    """Outputs that are features."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.inner(x))


class Barred(Bounded):
    """Logits of which one is barred."""

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.inner(x).masked_fill(torch.arange(3) == 1, -torch.inf)
        return found


class Spectrum(Bounded):
    """Outputs that are no real numbers."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.rfft(self.inner(x))


class Picked(Bounded):
    """As many rows as weights decide."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        found: Tensor = y[y.sum(-1) > 0]
        return found


def pair(kind: type[Bounded]) -> tuple[nn.Module, nn.Module]:
    return kind(A).eval(), kind(B).eval()


def moved(healed: Mapping[str, Tensor], merged: Mapping[str, Tensor]) -> float:
    return max(float((healed[name] - tensor).abs().max()) for name, tensor in merged.items())


def healed(batches: list[Tensor], kind: type[Bounded] = Bounded, **options: Any) -> float:
    a, b = pair(kind)
    merged = pg.merge(a, b)
    return moved(pg.heal(merged, a, b, batches, **OPTIONS | options), merged)


def test_a_batch_held_out_that_is_not_finite_is_refused() -> None:
    with pytest.raises(pg.CalibrationError, match=r"batch 12: args\[0\] has values that are not finite"):
        healed([*X[:-1], torch.full((64, 5), torch.nan)])


def test_a_batch_held_out_that_judges_nothing_is_refused() -> None:
    def loss(outputs: Tensor, batch: Tensor) -> Tensor:
        return outputs.square().mean() / (len(batch) - 1)

    with pytest.raises(pg.CalibrationError, match="the loss is inf on the batches held out before learning"):
        healed([*X[:-1], X[-1][:1]], loss=loss)


def test_batches_of_one_row_are_learned_from() -> None:
    assert healed([*X[:-1], X[-1][:1]]) > 0.01
    assert healed([x[:1] for x in X[:5]]) > 0.01


LOSSES: Mapping[str, Callable[[Any, Any], Any]] = {
    "a number": lambda outputs, batch: 0.0,
    "nothing": lambda outputs, batch: None,
    "a vector": lambda outputs, batch: outputs.sum(0),
    "whole": lambda outputs, batch: outputs.argmax(),
}


@pytest.mark.parametrize("what", LOSSES)
def test_a_loss_that_is_not_one_number_is_refused(what: str) -> None:
    with pytest.raises(pg.OptionError, match="a loss returns a tensor of no dimension that can be differentiated, not"):
        healed(X, loss=LOSSES[what])


def test_a_loss_of_the_user_takes_outputs_of_any_kind() -> None:
    assert healed(X, Spectrum, loss=lambda outputs, batch: outputs.abs().square().mean()) > 0.01
    with pytest.raises(pg.OptionError, match="returns no tensor of real numbers: give a loss"):
        healed(X, Spectrum)


def test_rows_that_weights_pick_are_not_compared() -> None:
    a, b = pair(Picked)
    for call in (lambda: healed(X, Picked), lambda: pg.fidelity(pg.merge(a, b), a, b, X)):
        with pytest.raises(pg.OptionError, match=r"output has .* rows for the same inputs, as weights decide how many"):
            call()


def test_a_logit_that_both_parents_bar_does_not_count() -> None:
    assert healed(X, Barred) > 0.01
    merged, (a, b) = pg.merge(*pair(Barred)), pair(Barred)
    found = pg.fidelity(merged, a, b, X)
    outputs = []
    with torch.no_grad():
        for state in (merged, a.state_dict(), b.state_dict()):
            bare = {name.removeprefix("inner."): tensor for name, tensor in state.items()}
            outputs.append(torch.func.functional_call(A, bare, (torch.cat(X),))[:, [0, 2]].double())
    own, one, other = (logits.log_softmax(-1) for logits in outputs)
    target = (one.exp() + other.exp()) / 2
    assert found.divergence == pytest.approx(float((target * (target.log() - own)).sum(-1).mean()), rel=1e-4)
    assert 0 < found.merge < 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_a_merge_in_another_dtype_is_healed_and_judged(dtype: torch.dtype) -> None:
    other = {name: tensor.to(dtype) for name, tensor in MERGED.items()}
    done = pg.heal(other, A, B, X, **OPTIONS)
    assert {tensor.dtype for tensor in done.values()} == {dtype}
    assert moved(done, other) > 0.01
    assert pg.fidelity(other, A, B, X).merge == pytest.approx(pg.fidelity(MERGED, A, B, X).merge, abs=0.01)


def test_what_overflows_when_it_is_stored_is_refused() -> None:
    a, b = (Bounded(spread(mlp(), seed)).eval().half() for seed in (1, 2))
    with pytest.raises(pg.CalibrationError, match=r"not finite in inner\.0\.weight.*: try a lower rate"):
        pg.heal(pg.merge(a, b), a, b, [x.half() for x in X[:4]], steps=20, rate=1e5)


def test_nothing_to_learn_is_told_of() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("table", torch.randn(5, 4))

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = x @ self.table
            return found

    a, b = Fixed().eval(), Fixed().eval()
    with pytest.raises(pg.OptionError, match="there is nothing to learn"):
        pg.heal(pg.merge(a, b), a, b, X, steps=2)


@pytest.mark.parametrize("call", ["heal", "fidelity", "apply"])
def test_arrays_are_no_tensors(call: str) -> None:
    arrays: Any = {name: tensor.numpy() for name, tensor in MERGED.items()}
    spec = pg.derive(A, (X[0],))
    calls: Mapping[str, Callable[[], Any]] = {
        "heal": lambda: pg.heal(arrays, A, B, X, steps=1),
        "fidelity": lambda: pg.fidelity(arrays, A, B, X),
        "apply": lambda: spec.apply(spec.sample(0), arrays),  # which moved nothing
    }
    with pytest.raises(pg.SpecMismatchError, match=r"0\.weight: .*a ndarray"):
        calls[call]()


@pytest.mark.parametrize("rows", [1, 5])
def test_outputs_that_are_all_the_same_tell_nothing_of_a_merge(rows: int) -> None:
    with pytest.raises(pg.CalibrationError, match=rf"the parents' outputs are the same in all rows \({rows}\)"):
        pg.fidelity(MERGED, A, B, [X[0][:1].expand(rows, 5)])


def test_heads_that_differ_are_not_healed() -> None:
    a, b = (spread(nn.Sequential(nn.Linear(5, 12), nn.Tanh(), nn.Linear(12, n))) for n in (3, 4))
    aligned = pg.align(a, b, X, heads="first")
    with pytest.raises(pg.OptionError, match="and their heads differ: leave out"):
        pg.merge(a, b, alignment=aligned, method="linear+heal", data=X)
