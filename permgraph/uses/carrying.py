"""Moves other tensors along with the weights of a model: task vectors, adapters, moments, vectors of a stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from permgraph.errors import OptionError, SpecMismatchError
from permgraph.symmetry.elements.layout import Layout
from permgraph.symmetry.elements.parts import Matrix, Monomial
from permgraph.symmetry.elements.streams import along
from permgraph.symmetry.specification.spec import PermutationSpec
from permgraph.uses.adapters import Factor, factor_of, whole_of

Stage = tuple[PermutationSpec, Mapping[str, Any]]
"""A group with one of its elements; stages are applied in order."""

WHAT = ("weights", "gradients", "squares")


def carried(
    stages: Sequence[Stage], tensors: Mapping[str, Tensor], what: str, is_transposed: Callable[[str], bool]
) -> dict[str, Tensor]:
    """Tensors with a model's names and axes, or factors of adapters, moved by all stages; see `Alignment.apply`."""
    if what not in WHAT:
        raise OptionError(f"what is one of {', '.join(WHAT)}, not {what!r}")
    found = {}
    for name, tensor in tensors.items():
        moved = tensor.detach()
        for spec, element in stages:
            layout = _layout(spec, name, tensor, is_transposed)
            moved = layout.apply({group: _part(name, group, element[group], what) for group in layout.groups}, moved)
        found[name] = moved
    return found


def carried_vector(stages: Sequence[Stage], vector: Tensor, at: str | None, *, read: bool) -> Tensor:
    """Vectors of a residual stream, moved by all stages; see `Alignment.stream`."""
    moved = vector.detach()
    for spec, element in stages:
        layout = along(_stream(spec, vector, at), 0, tuple(vector.shape), vector.dim() - 1)
        assert layout is not None  # a vector has one dimension
        what = "gradients" if read else "weights"
        moved = layout.apply({group: _part("a vector", group, element[group], what) for group in layout.groups}, moved)
    return moved


def _part(name: str, group: str, part: Any, what: str) -> Any:
    """A part as it acts on weights, on their gradients (contragrediently), or on squares of gradients."""
    if what == "weights" or not isinstance(part, Monomial | Matrix):
        return part
    if isinstance(part, Monomial):
        return Monomial(part.index, part.scale ** (-1.0 if what == "gradients" else -2.0))
    if what == "squares":
        raise SpecMismatchError(
            f"{name}: {group} mixes units, and squares of gradients do not say what those of their sums are; "
            "begin second moments anew, or align with kinds that only permute"
        )
    inverse = np.asarray(part.matrix) if part.orthogonal else np.linalg.inv(part.matrix)
    return Matrix(inverse if part.orthogonal else np.swapaxes(inverse, -1, -2), part.orthogonal)


def _layout(spec: PermutationSpec, name: str, tensor: Tensor, is_transposed: Callable[[str], bool]) -> Layout:
    """Where the groups act on a tensor of this name."""
    factor = None if name in spec.shapes else factor_of(name, spec.shapes)
    known = name if name in spec.shapes else None if factor else whole_of(name, spec.shapes)
    if known is not None:
        if tuple(tensor.shape) != tuple(spec.shapes[known]):
            raise SpecMismatchError(
                f"{name} has shape {tuple(tensor.shape)}, and in the model {tuple(spec.shapes[known])}: give tensors "
                "that go with this model's weights"
            )
        return spec.layouts.get(known, Layout(tuple(tensor.shape), ()))
    if factor is None:
        raise SpecMismatchError(
            f"the model has no tensor {name}, and no weight of which it is a factor: name tensors as the model does, "
            "and factors MODULE.lora_A.weight and MODULE.lora_B.weight"
        )
    return _layout_of_factor(spec, name, factor, tensor, is_transposed(factor.weight))


def _layout_of_factor(spec: PermutationSpec, name: str, factor: Factor, tensor: Tensor, transposed: bool) -> Layout:
    """The layout of a low-rank factor: one axis is the weight's, the other one, the rank, does not move."""
    shape = spec.shapes[factor.weight]
    dim, axis = factor.dim_of_weight(transposed), factor.axis
    if tensor.dim() < 2 or len(shape) < 2 or tensor.shape[axis] != shape[dim]:
        raise SpecMismatchError(
            f"{name} has shape {tuple(tensor.shape)}, and its axis {axis} should be dim {dim} of {factor.weight}, of "
            f"shape {tuple(shape)}: give the factors of B @ A, and transposed where weights are stored as (in, out)"
        )
    found = along(spec.layouts.get(factor.weight, Layout(tuple(shape), ())), dim, tuple(tensor.shape), axis)
    if found is None:
        raise SpecMismatchError(
            f"{name}: what moves dim {dim} of {factor.weight} depends on the place on its other dims, so that factors "
            "do not move by themselves; give their product, under the name of the weight"
        )
    return found


def _stream(spec: PermutationSpec, vector: Tensor, at: str | None) -> Layout:
    size = vector.shape[-1] if vector.dim() else 0
    found = [
        stream
        for stream in spec.streams
        if stream.layout.shape == (size,)
        if at is None or at in (*stream.places, *stream.layout.groups)
    ]
    if len(found) == 1:
        return found[0].layout
    named = [f"{stream.layout.shape[0]} at {stream.places[0] or 'the model'}" for stream in spec.streams]
    raise SpecMismatchError(
        f"{len(found) or 'no'} residual streams that move have vectors of {size}"
        + (f" at {at}" if at is not None else "")
        + f"; the model's streams: {', '.join(named) or 'none that moves'}. Name one by at, a module that adds to it"
    )
