"""Correlation matching: units of B are sent to the units of A whose activations they correlate with most."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, prod
from typing import Any

import torch
from torch import Tensor, nn

from permgraph.errors import CalibrationError, SpecMismatchError
from permgraph.matching.assignment import Term
from permgraph.matching.moments import CrossMoments
from permgraph.matching.points import Point
from permgraph.tracing.capture import Program, capture, device_of, require_same
from permgraph.tracing.padding import padding_masks
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


def correlation_terms(
    pair: Pair, points: list[Point], batches: Iterable[Any], total: int | None = None, progress: Progress | None = None
) -> list[Term]:
    """One term a point: the signed Pearson correlation of every unit of A with every unit of B, over all frames.

    Both models see the same batches in lockstep, and each activation is reduced to sums as soon as both have it, so
    that nothing is kept but one set of moments. Several points of one group add up, each times its
    weight; one that no input reaches (a class token before the first layer) says nothing where others do.

    Source: Li et al. (arXiv 1511.07543); arXiv 2506.11403 with correlations signed.
    Raises CalibrationError for no batches, values that are not finite, constant activations, too few frames, or more
    correlations than the machine has memory for.
    """
    pair.require_one_device()
    require_memory(points)
    moments = {k: CrossMoments(prod(p.sizes), where=p.node) for k, p in enumerate(points)}
    count = 0
    for count, item in enumerate(batches, 1):
        args, kwargs = as_batch(item)
        _require_finite_input(args, kwargs, count)
        pair.observe(args, kwargs, points, moments)
        if progress is not None:
            progress("calibration", count, total)
    if not count:
        raise CalibrationError("the calibration data is empty: give at least one batch")
    return list(terms_of(points, moments))


def require_memory(points: Sequence[Point]) -> None:
    """Raises CalibrationError where the float64 [n, n] of all points would not fit into this machine's memory."""
    needed, have = sum(8 * prod(point.sizes) ** 2 for point in points), machine_memory()
    if needed > have:
        largest = max(points, key=lambda point: prod(point.sizes))
        raise CalibrationError(
            f"the correlations at {len(points)} points take {needed / 2**30:.1f} GiB, and this machine has "
            f"{have / 2**30:.1f}; the largest is {largest.node} with {prod(largest.sizes)} units: match fewer groups "
            'at a time (`groups`), or use method "weights"'
        )


def machine_memory() -> float:
    """Bytes of memory of this machine; infinite where the system does not say."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else inf


def terms_of(points: Sequence[Point], moments: dict[int, CrossMoments]) -> Iterator[Term]:
    """A term a point; one with too few frames, or where all is constant, is left out if each of its groups is told
    apart at another. What is in reserve is for groups that no other point tells apart.
    """
    telling = [k for k in range(len(points)) if moments[k].tells]
    told = {name for k in telling if not points[k].reserve for name in points[k].groups}
    chosen = [k for k in telling if not (points[k].reserve and told.issuperset(points[k].groups))]
    told.update(*(points[k].groups for k in chosen))
    for k, point in enumerate(points):
        moment = moments.pop(k)
        if k not in chosen and (point.reserve or told.issuperset(point.groups)):
            continue
        moment.require_signal()
        matrix = moment.correlation(last=True).reshape(point.sizes * 2)
        if point.weight != 1:
            matrix *= point.weight
        yield Term(point.groups, matrix, point.weight)


def _require_finite_input(args: tuple[Any, ...], kwargs: Mapping[str, Any], number: int) -> None:
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
