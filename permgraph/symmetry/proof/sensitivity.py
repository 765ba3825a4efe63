"""Gradients of outputs by parameters: one forward and one backward pass, without a copy of the model."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils import _pytree as pytree

from permgraph.symmetry.proof.agreement import as_real
from permgraph.symmetry.proof.trials import Trial
from permgraph.tracing.program import op_name
from permgraph.tracing.run import Runner

Received = Callable[[str, Tensor, Tensor], None]
"""Called with the state-dict key, the value and the gradient of each parameter that the outputs depend on, or of some
of its rows."""
Weigh = Callable[[list[Any]], Sequence[Tensor | None]]
"""Output leaves -> the weights of their elements, None for an output that does not count."""
SAME = ("aten.detach", "aten.detach_")


def gradients(trial: Trial, seed: int, weigh: Weigh, received: Received) -> None:
    """The gradients of the sum of all outputs, each times its weights, at the parameters of a seed.

    A gradient is passed to `received` and dropped, and a parameter that the backward pass needs is made again, so that
    neither is held for more than one parameter at a time. Raises RuntimeError if an operation has no derivative.
    """
    runner = _Tracked(trial, seed, received)
    with runner.without_parameters():
        (outputs,) = trial.run(runner)
        weights = weigh(pytree.tree_map_only(Tensor, Tensor.detach, outputs))
        total = sum(
            (as_real(leaf) * weight).sum()
            for leaf, weight in zip(outputs, weights, strict=True)
            if weight is not None and isinstance(leaf, Tensor) and leaf.requires_grad
        )
        if isinstance(total, Tensor):
            total.backward()  # type: ignore[no-untyped-call]


class _Supplied(torch.autograd.Function):
    """A parameter that is made when it is needed, and whose gradient is passed on as soon as it is computed."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, value: Tensor, received: Callable[[Tensor], None]) -> Tensor:
        ctx.received = received
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, ...]:
        ctx.received(gradient)
        return None, None, None


class _Tracked(Runner):
    """Runs a trial's program with gradients."""

    def __init__(self, trial: Trial, seed: int, received: Received) -> None:
        super().__init__(
            trial.program, lambda *which: self.supplied(*which), torch.float64, seed,
            gradients=True, by_rows=trial.by_rows,
        )  # fmt: skip
        self.trial, self.received = trial, received
        self.anchor = torch.zeros((), dtype=torch.float64, requires_grad=True, device="cpu")
        self.places: dict[int, tuple[Callable[[], Tensor], weakref.ref[Tensor]]] = {}
        self.last: tuple[str, Tensor] | None = None

    def supplied(self, name: str, rows: Tensor | None = None) -> Tensor:
        """A parameter at the seed, or rows of it, whose gradient is handed on."""
        value = self.trial.parameter(name, self.seed, rows)
        if not value.is_floating_point():
            return value
        make = partial(self.again, name, rows)
        supplied: Tensor = _Supplied.apply(self.anchor, value, lambda gradient: self.received(name, make(), gradient))  # type: ignore[no-untyped-call]
        if not self.writes:
            self.places[supplied.untyped_storage().data_ptr()] = (make, weakref.ref(supplied))
        return supplied

    def again(self, name: str, rows: Tensor | None) -> Tensor:
        """A parameter that was made before; the last one is cached, since its gradient is computed next."""
        if rows is not None:
            return self.trial.parameter(name, self.seed, rows)
        if self.last is None or self.last[0] != name:
            self.last = None
            self.last = name, self.trial.parameter(name, self.seed)
        return self.last[1]

    def cast(self, value: Any) -> Any:
        """A supplied parameter as it is; a copy where the program writes to its tensors in place."""
        if isinstance(value, Tensor) and value.requires_grad and value.grad_fn is not None:
            return value.clone() if self.writes else value
        return super().cast(value)

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        """One operation; gradients pass through `detach`, and stop at operations without a derivative."""
        if op_name(target) in SAME:
            return args[0]
        try:
            return super().call_function(target, args, kwargs)
        except RuntimeError:
            detached = pytree.tree_map_only(Tensor, Tensor.detach, (args, kwargs))
            return super().call_function(target, *detached)

    @contextmanager
    def without_parameters(self) -> Iterator[None]:
        """Operations save for the backward pass how to make a parameter, instead of the parameter."""

        def kept(tensor: Tensor) -> Any:
            make, alive = self.places.get(tensor.untyped_storage().data_ptr(), (None, None))
            if alive is None or alive() is None:
                return tensor
            return make, tensor.shape, tensor.stride(), tensor.storage_offset()

        def made(what: Any) -> Tensor:
            if isinstance(what, Tensor):
                return what
            make, *place = what
            remade: Tensor = make()
            return remade.as_strided(*place)

        with torch.enable_grad(), saved_tensors_hooks(kept, made):
            yield
