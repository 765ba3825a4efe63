"""Two models of one architecture, traced once for each shape of batch and run together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from permgraph.comparing.moments import CrossMoments
from permgraph.comparing.padding import padding_masks
from permgraph.comparing.points import Point
from permgraph.errors import CalibrationError, SpecMismatchError
from permgraph.tracing.capture import Program, capture, device_of, require_same
from permgraph.tracing.run import Runner, bind

Batch = tuple[tuple[Any, ...], dict[str, Any]]
Progress = Callable[[str, int, int | None], None]
"""Called with what is done, how many steps of it, and of how many if that is known."""


def as_batch(item: Any) -> Batch:
    """A batch as (args, kwargs): a tensor is the one argument, a tuple the arguments, a mapping the keywords."""
    if isinstance(item, Mapping):
        return (), dict(item)
    if isinstance(item, tuple | list):
        return tuple(item), {}
    if isinstance(item, Tensor):
        return (item,), {}
    raise CalibrationError(
        f"a batch is a tensor, a tuple of arguments or a dict of keywords, not {type(item).__name__}"
    )


def require_finite_input(args: tuple[Any, ...], kwargs: Mapping[str, Any], number: int) -> None:
    """Raise CalibrationError for a batch with values that are not finite."""
    for name, value in [*((f"argument {k}", v) for k, v in enumerate(args)), *kwargs.items()]:
        if isinstance(value, Tensor) and value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise CalibrationError(f"batch {number}: {name} has values that are not finite; clean the calibration data")


@dataclass
class Pair:
    """Two models that compute alike, traced once for each shape of batch."""

    model_a: nn.Module
    model_b: nn.Module
    state_a: Mapping[str, Tensor]
    state_b: Mapping[str, Tensor]
    programs: dict[Any, Program] = field(default_factory=dict)

    def require_one_device(self) -> None:
        """Raise SpecMismatchError for two models that cannot be given the same batches."""
        a, b = device_of(self.model_a), device_of(self.model_b)
        if a != b:
            raise SpecMismatchError(f"model A is on {a} and model B on {b}: move them to one device")

    def program(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Program:
        """The program for batches of this shape. SpecMismatchError if the two models compute differently."""
        key = _shapes(args), _shapes(tuple(sorted(kwargs.items())))
        if key not in self.programs:
            found = capture(self.model_a, args, kwargs)
            require_same(found, capture(self.model_b, args, kwargs))
            if self.programs:
                _require_same_nodes(next(iter(self.programs.values())), found)
            self.programs[key] = found
        return self.programs[key]

    def observe(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], points: list[Point], moments: Mapping[int, CrossMoments]
    ) -> None:
        """Run both models on a batch and add what they do at `points` to `moments`."""
        program = self.program(args, kwargs)
        inputs = bind(program, args, kwargs)
        masks = padding_masks(program, inputs)
        here: dict[str, list[int]] = {}
        for k, point in enumerate(points):
            here.setdefault(point.node, []).append(k)
        for node, a, b in self._lockstep(program, inputs):
            for k in here.get(node, ()):
                point = points[k].resized(a.shape)
                moments[k].update(point.frames(a), point.frames(b), point.kept(masks.get(node)))

    def _lockstep(self, program: Program, inputs: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
        runs = [Runner(program, state.__getitem__).steps(inputs) for state in (self.state_a, self.state_b)]
        for (node, a), (_, b) in zip(*runs, strict=True):
            yield node.name, a, b


def _shapes(items: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(
        tuple(item.shape) if isinstance(item, Tensor) else _shapes(item) if isinstance(item, tuple) else repr(item)
        for item in items
    )


def _require_same_nodes(first: Program, other: Program) -> None:
    a, b = ([(n.name, str(n.target)) for n in p.graph.graph.nodes] for p in (first, other))
    if a != b:
        raise CalibrationError(
            "the model takes another path on a batch of another shape: give calibration batches of one shape"
        )
