"""Pads a smaller model to the sizes of a larger one, with hidden units, heads and layers that have no effect."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from permgraph.arguments import typed
from permgraph.comparing.batches import Batch
from permgraph.comparing.models import differing_dtypes
from permgraph.errors import SpecMismatchError, VerificationError
from permgraph.symmetry.derivation.derive import Derivation
from permgraph.symmetry.derivation.folding import foldable
from permgraph.symmetry.elements.parts import Monomial
from permgraph.symmetry.elements.permutations import PermutationGroup
from permgraph.symmetry.elements.report import counted
from permgraph.symmetry.proof.agreement import TOLERANCE, Scales, gaps
from permgraph.symmetry.proof.trials import NOISES, generic, literals
from permgraph.symmetry.specification.spec import PermutationSpec
from permgraph.tracing.capture import capture
from permgraph.tracing.loaded import Loaded, inputs_of, module_of, tie_of
from permgraph.tracing.program import Program
from permgraph.tracing.run import Runner, bind, one_sample
from permgraph.tracing.twin import drop_kept
from permgraph.uses.at_smallest_norm import at_smallest_norm
from permgraph.uses.corresponding import Layers, Placing, first_places, in_a
from permgraph.uses.removing import kept_positions
from permgraph.uses.widening import Widening, widening
from permgraph.wording import few

DRAWS = 3
State = Mapping[str, Tensor]
Model = TypeVar("Model", bound=nn.Module | Loaded)


@dataclass(frozen=True, eq=False)
class Enlarged:
    """A model of A's shapes that computes what B does.

    Attributes:
        model: a module of A's class and sizes; or, if B came from `load`, the same with A's inputs.
        layers: prefix of a stack -> the number in A of each layer of B; the other layers are identities.
        sizes: group -> how many units B has, and how many A has; the added units come last, with weights of 0.
        max_error: the largest difference of an output element of B and of the enlarged model, at random parameters in
            float64, in units of its spread.

    """

    model: Any = field(repr=False)
    layers: Mapping[str, tuple[int, ...]]
    sizes: Mapping[str, tuple[int, int]]
    max_error: float

    @property
    def fields(self) -> dict[str, Any]:
        """The same for a record."""
        return {"layers": dict(self.layers), "sizes": dict(self.sizes), "max_error": self.max_error}

    def __repr__(self) -> str:
        return f"Enlarged({self})"

    def __str__(self) -> str:
        layers = [f"{prefix.rstrip('.')}: layers of B at {', '.join(map(str, p))}" for prefix, p in self.layers.items()]
        sizes = [f"{name}: {counted(b, 'unit')} of B among {a}" for name, (b, a) in self.sizes.items()]
        return "; ".join([*layers, few(sizes, 4)] if sizes else layers)


@typed
def enlarge(
    model_a: nn.Module | Loaded,
    model_b: nn.Module | Loaded,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    kinds: str = "permutation",
) -> Enlarged:
    """f(enlarged θ_B) = f(θ_B): B as a model of A's sizes, with units of weight 0 and layers that add nothing.

    B may have fewer hidden units, heads and channels that act only through their outgoing weights, and fewer blocks
    that add their result to a stream (pre-norm residual blocks): with all weights 0 these are the identity. Matching
    the result with A by permutations assigns each unit of B to a unit of A. Heads may have fewer dims in B, and a
    residual stream that rotates once B's norms are folded (see `fold`) may be narrower: an isometry writes it into A's.
    The proof does not rely on names or classes: the two models are run at random parameters in float64, and must agree.

    Args:
        model_a: the larger model, in eval mode.
        model_b: the smaller one, of the same class; neither is changed.
        args: example inputs, as for `derive`.
        kwargs: example keyword inputs.
        kinds: by which kinds of symmetries the two will be matched; layers are placed by what none of them changes.

    Returns:
        B at A's sizes, where its layers are placed, and how many units it has.

    Raises:
        SpecMismatchError: a size that neither a group of A nor a stream explains, other dtypes, or B is the larger one.
        VerificationError: the enlarged model does not compute the same as B, for example with post-norm blocks.

    """
    example = inputs_of(model_a, args, kwargs)
    a, b = module_of(model_a), module_of(model_b)
    if type(a) is not type(b):
        raise SpecMismatchError(
            f"A is a {type(a).__name__} and B a {type(b).__name__}: a model is enlarged within one class"
        )
    states = dict(a.state_dict()), dict(b.state_dict())
    if dtypes := differing_dtypes(*states):
        raise SpecMismatchError(
            f"A is {dtypes[0]} and B {dtypes[1]}, and the enlarged model has A's parameters: convert one, as with "
            "model.float()"
        )
    programs = capture(a, *one_sample(example)), capture(b, *one_sample(example))
    spec = Derivation(programs[0], "fixed", tie_of(model_a)).spec
    layers = first_places(*states)
    names = {name: in_a(name, layers) for name in states[1]}
    there = {name: spec.shapes[other] for name, other in names.items() if other in spec.shapes}
    wider = widening(b, programs[1], one_sample(example), tie_of(model_b), states[1], there)
    plan = _plan(_Plan(spec, names, {}, {name for name, _ in a.named_buffers()}, wider), states[1], layers)
    if layers:
        maps = foldable(a, programs[0], untie=False, args=example[0], kwargs=example[1]).maps
        plan = replace(plan, neutral={name: one.neutral for name, one in maps.items()})
        pair: tuple[State, State] = states[0], plan.enlarged(*states)
        if kinds == "all":
            pair = at_smallest_norm(a, programs[0], one_sample(example), tie_of(model_a), pair)
        layers = Placing(spec, *pair, layers, plan.sizes, kinds != "permutation").places()
        plan = _plan(plan, states[1], layers)
    plan, error = _proved(programs, plan, states, one_sample(example))
    module = copy.deepcopy(a)
    module.load_state_dict(plan.enlarged(states[0], states[1]))
    drop_kept(module)
    model: Any = module
    if not isinstance(model_b, nn.Module):
        model = replace(model_b, model=module, args=example[0], kwargs=example[1])  # type: ignore[type-var]
    return Enlarged(model, layers, dict(wider.sizes) | {n: (k, spec[n].size) for n, k in plan.sizes.items()}, error)


@dataclass(frozen=True, eq=False)
class _Plan:
    """Where the tensors of B are placed in those of A: parameters among zeros, buffers among A's values.

    `neutral`: weight of a norm -> the value for which it scales by 1, which it has in layers that B does not have, so
    that it can be folded there too.
    """

    spec: PermutationSpec
    names: Mapping[str, str]
    sizes: Mapping[str, int]
    buffers: set[str]
    wider: Widening = field(default_factory=Widening)
    neutral: Mapping[str, float] = field(default_factory=dict)
    scores: bool = True
    """Whether queries and keys with fewer dims get the scale that makes up for 1 / √dims."""

    def enlarged(self, a: State, b: State) -> dict[str, Tensor]:
        """B's parameters among zeros; counters and computed buffers are A's in layers that B does not have."""
        b = self.wider(b)
        neutral = {name: value for name, value in self.neutral.items() if name not in self.names.values()}
        found = {
            name: tensor if name in self.buffers else torch.full_like(tensor, neutral.get(name, 0))
            for name, tensor in a.items()
        }
        for name, other in self.names.items():
            tensor = b[name]
            if tensor.shape == found[other].shape:
                found[other] = tensor.detach().clone()
                continue
            whole = found[other].to(tensor.dtype, copy=True)
            places = kept_positions(other, self.spec, self.sizes)
            whole[np.ix_(*places)] = tensor.detach()
            found[other] = self._scaled(other, whole)
        return found

    @property
    def narrow_heads(self) -> dict[str, Any]:
        """Group of queries and keys with fewer dims in B -> (d_A / d_B)^¼, for each of the two."""
        found = {}
        for name, count in self.sizes.items():
            group = self.spec[name]
            if group.role == "attention.qk":
                scale = np.full(group.table_shape, (group.size / count) ** 0.25)
                found[name] = Monomial(np.broadcast_to(np.arange(group.size), group.table_shape), scale)
        return found

    def _scaled(self, name: str, tensor: Tensor) -> Tensor:
        layout = self.spec.layouts.get(name)
        here = {group: part for group, part in self.narrow_heads.items() if layout and group in layout.groups}
        return layout.apply(here, tensor) if layout and here and self.scores else tensor


def _plan(plan: _Plan, b: State, layers: Layers) -> _Plan:
    """The plan for B with its layers at these places."""
    names = {name: in_a(name, layers) for name in b}
    shapes = plan.wider.shapes({name: tuple(tensor.shape) for name, tensor in b.items()})
    return replace(plan, names=names, sizes=_sizes(plan.spec, {names[name]: shape for name, shape in shapes.items()}))


def _sizes(spec: PermutationSpec, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Group of A -> how many of its units B has. Raises SpecMismatchError if that does not explain all sizes."""
    strange = [name for name in shapes if len(shapes[name]) != len(spec.shapes.get(name, ()))]
    if strange:
        raise SpecMismatchError(f"tensors of B that A does not have: {few(strange)}. Give models of one class")
    open_axes = {
        (name, dim): size
        for name, shape in shapes.items()
        for dim, size in enumerate(shape)
        if size != spec.shapes[name][dim]
    }
    found: dict[str, int] = {}
    for group in sorted(spec.groups, key=lambda one: len(one.depends_on)):
        count = _count(spec, group, open_axes)
        if count is not None:
            found[group.name] = count
            open_axes = {axis: size for axis, size in open_axes.items() if axis not in group.axes}
    if open_axes:
        (name, dim), size = next(iter(open_axes.items()))
        raise SpecMismatchError(
            f"{name} has {size} along dim {dim} in B and {spec.shapes[name][dim]} in A, which no group of hidden "
            "units, heads or channels explains, nor a residual stream that rotates. Make A the larger model, give both "
            "the same inputs and the same dims of rotated heads, and untie a head that is tied to the embedding"
        )
    return found


def _count(spec: PermutationSpec, group: PermutationGroup, sizes: Mapping[tuple[str, int], int]) -> int | None:
    """How many units B has of a group; None if its axes in B do not agree on that."""
    axes = [axis for axis in group.axes if axis in sizes]
    if not axes or group.role == "residual":
        return None
    name, dim = axes[0]
    one = spec.shapes[name][dim] - len(kept_positions(name, spec, {group.name: group.size - 1})[dim])
    missing = spec.shapes[name][dim] - sizes[name, dim]
    count = group.size - missing // max(one, 1)
    if missing % max(one, 1) or not 0 < count < group.size:
        return None
    fits = (len(kept_positions(n, spec, {group.name: count})[d]) == sizes[n, d] for n, d in axes)
    return count if all(fits) else None


def _proved(
    programs: tuple[Program, Program], plan: _Plan, states: tuple[State, State], example: Batch
) -> tuple[_Plan, float]:
    """The plan that keeps the function, and its largest error. Raises VerificationError if there is none."""
    errors = []
    for one in (plan, replace(plan, scores=False)) if plan.narrow_heads else (plan,):
        errors.append(_error(programs, one, states, example))
        if errors[-1] <= TOLERANCE:
            return one, errors[-1]
    raise VerificationError(
        f"with A's additional weights at 0, the model does not compute what B does (error {min(errors):.1e}): a layer "
        "with weights 0 is not the identity in it (as after a norm), or units with weights 0 have an effect"
    )


def _error(programs: tuple[Program, Program], plan: _Plan, states: tuple[State, State], example: Batch) -> float:
    """The largest error over some draws of parameters."""
    scales, worst = Scales(literals(programs[1])), None
    for seed in range(DRAWS):
        drawn = {n: generic(programs[1].names.get(n, n), t, seed, NOISES[0]) for n, t in states[1].items()}
        wide = plan.enlarged({n: t.double() if t.is_floating_point() else t for n, t in states[0].items()}, drawn)
        before, after = (
            Runner(program, state.__getitem__, torch.float64, seed).outputs(bind(program, *example))
            for program, state in zip(programs, (wide, drawn), strict=True)
        )
        scales.draw(after)
        found = gaps(after, before)
        worst = found if worst is None else list(map(torch.maximum, worst, found))
    error = max(scales.errors(worst or []), default=0.0)
    return error if error == error else float("inf")
