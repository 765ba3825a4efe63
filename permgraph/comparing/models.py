"""Models of one architecture, traced once for each shape of batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from permgraph.checkpoints.lazy_state import LazyState, like, memory_of, shape_or_type, small_part
from permgraph.checkpoints.reading import require_finite
from permgraph.comparing.batches import Batch
from permgraph.comparing.masks import finite, require_same_masks
from permgraph.errors import CalibrationError, CaptureError, SpecMismatchError
from permgraph.symmetry.derivation.affine import uniform_among
from permgraph.symmetry.derivation.derive import Derivation
from permgraph.symmetry.derivation.folding import Foldable, Folded, foldable, separated
from permgraph.symmetry.proof.verification import Certificate, at_another_length, certify
from permgraph.symmetry.specification.spec import PermutationSpec
from permgraph.tracing.but_for_weights import equal_but_for_weights
from permgraph.tracing.capture import capture
from permgraph.tracing.inputs import device_of
from permgraph.tracing.loaded import AxisTies, Loaded, inputs_of, module_of, state_of, tie_of
from permgraph.tracing.program import Program, require_same
from permgraph.tracing.results import counted
from permgraph.tracing.run import bind
from permgraph.wording import few

State = Mapping[str, Tensor]
KNOWN = ("_programs", "_alone", "_derivations")


@dataclass(eq=False)
class Models:
    """Two models or more of one architecture, and the programs that all of them compute.

    A program is traced once from every model for each shape of batch, and cached with what is derived from it.
    `with_states` and `pair` share the cache.

    Attributes:
        modules: the models, never changed; the first is the reference, A.
        states: the state dict of each, or the weights given by `with_states`.
        tie: axes of parameters that the forward pass does not reach, as in `derive`.
        folds: how the norms of each were folded; () if they were not.
        foldable: the norms of such models; None if they were not folded.
        example: inputs that the reference was loaded with.
        masks: names of the tensors with infinities, which are at the same places in all models.

    """

    modules: tuple[nn.Module, ...]
    states: tuple[State, ...]
    tie: AxisTies = field(default_factory=dict)
    folds: tuple[Folded, ...] = field(default=(), repr=False)
    example: Batch = ((), {})
    masks: tuple[str, ...] = ()
    foldable: Foldable | None = field(default=None, repr=False)
    _programs: dict[Any, Program] = field(default_factory=dict, repr=False)
    _alone: dict[Any, Program] = field(default_factory=dict, repr=False)
    _derivations: dict[Any, Derivation] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        return f"Models({', '.join(type(module).__name__ for module in self.modules)})"

    @classmethod
    def of(cls, models: Sequence[nn.Module | Loaded], tie: AxisTies | None = None) -> Models:
        """The models with their own weights; with the inputs and ties of the first if it comes from `load`.

        Raises SpecMismatchError for fewer than two, and for names or shapes that differ; NonFiniteError for weights
        that are not finite, and for masks that differ.
        """
        if len(models) < 2:
            raise SpecMismatchError(f"{len(models)} model given: matching needs two or more of one architecture")
        modules = tuple(module_of(model) for model in models)
        states = tuple(state_of(model) for model in models)
        found = cls(modules, states, tie_of(models[0], tie), example=inputs_of(models[0]))
        for number, state in enumerate(found.states):
            _require_weights(state, found.name(number))
            if number:
                found._require_alike(number)
            masks = require_finite(state, found.name(number))
            found = replace(found, masks=tuple(dict.fromkeys([*found.masks, *masks])))
        require_same_masks(found.masks, found.states, [found.name(number) for number in range(len(found))])
        return found

    def __len__(self) -> int:
        return len(self.modules)

    def name(self, number: int) -> str:
        """The name of a model in messages: A and B if there are two, 1, 2, 3 … if there are more."""
        return f"model {'AB'[number] if len(self) == 2 else number + 1}"

    def __getstate__(self) -> dict[str, Any]:
        """Without traced programs: a copy traces anew."""
        return self.__dict__ | {name: {} for name in KNOWN}

    def sharing(self, other: Models) -> Models:
        """These models with the cache of `other`, if they are the same models with the same weights."""
        same = self.modules == other.modules and all(
            memory_of(here[name]) == memory_of(there.get(name))
            for here, there in zip(map(like, self.states), map(like, other.states), strict=True)
            for name in here
        )
        return replace(self, tie=other.tie, **{name: getattr(other, name) for name in KNOWN}) if same else self

    @property
    def finite_states(self) -> tuple[State, ...]:
        """The weights with 0 in place of the infinities of masks, for distances."""
        return tuple(finite(state, self.masks) for state in self.states) if self.masks else self.states

    def with_states(self, *states: State) -> Models:
        """The same models with other weights."""
        return replace(self, states=states)

    def folded(self, batch: Batch) -> tuple[Models, tuple[str, ...]]:
        """The same models with norms that scale by 1 where all models allow it, and the names of untied weights."""
        args, kwargs = batch
        found = foldable(self.modules[0], self.program(batch), untie=True, args=args, kwargs=kwargs)
        folds = tuple(found.folded(self.states))
        states = tuple(one.state_dict for one in folds)
        if not found.untied:
            return replace(self, states=states, folds=folds, foldable=found), ()
        modules = tuple(separated(module, found.untied) for module in self.modules)
        return Models(modules, states, self.tie, folds, masks=self.masks, foldable=found), found.untied

    def pair(self, a: int, b: int) -> Models:
        """Two of the models."""
        modules, states = (self.modules[a], self.modules[b]), (self.states[a], self.states[b])
        if len(self) == 2 and (a, b) == (0, 1):
            return self
        folds = (self.folds[a], self.folds[b]) if self.folds else ()
        return replace(self, modules=modules, states=states, folds=folds)

    def require_one_device(self) -> None:
        """Raise SpecMismatchError for models that cannot be given the same batches."""
        first = device_of(self.modules[0])
        for number, module in enumerate(self.modules):
            if device_of(module) != first:
                raise SpecMismatchError(
                    f"{self.name(0)} is on {first} and {self.name(number)} on {device_of(module)}: "
                    "move them to one device"
                )
            if dtypes := differing_dtypes(self.states[0], self.states[number]):
                raise SpecMismatchError(
                    f"{self.name(0)} is {dtypes[0]} and {self.name(number)} {dtypes[1]}, and both are given the same "
                    "batches: convert one, as with model.float()"
                )

    def program(self, batch: Batch) -> Program:
        """The program for batches of this shape. Raises SpecMismatchError if two models compute differently."""
        key = _shape(batch)
        if key not in self._programs:
            found = self._captured(0, batch)
            for module in dict.fromkeys(self.modules[1:]):
                if not equal_but_for_weights(self.modules[0], module):
                    require_same(found, self._captured(self.modules.index(module), batch))
            if self._programs:
                _require_same_nodes(next(iter(self._programs.values())), found)
            self._programs[key] = found
        return self._programs[key]

    def _captured(self, number: int, batch: Batch) -> Program:
        """The program of one model; the results that count in one of them count in all."""
        return capture(self.modules[number], *batch, results=next(filter(None, map(counted, self.modules)), None))

    def derivation(self, batch: Batch, outputs: str, kinds: str = "permutation") -> Derivation:
        """The symmetries of the program for this shape of batch; vectors that are uniform in all models stay so."""
        uniform = uniform_among(self.program(batch), self.states) if kinds == "all" else ()
        key = _shape(batch), outputs, kinds, uniform
        if key not in self._derivations:
            self._derivations[key] = Derivation(self.program(batch), outputs, self.tie, kinds, uniform)
        return self._derivations[key]

    def certificate(
        self, number: int, spec: PermutationSpec, element: Mapping[str, Any], batch: Batch, seed: int
    ) -> Certificate:
        """Whether an element of the group leaves the function of one model unchanged, by one trial on `batch`.

        If the pass does not read all of the parameters, there is a second trial at another length, if the model takes
        one.
        """
        key = _shape(batch)
        program = self._programs.get(key) or self._alone.get(key)
        if program is None:
            program = self._alone[key] = self._captured(1, batch)
        inputs = bind(program, *batch)
        state = small_part(self.states[number])
        found = certify(program, spec, state, inputs, element=element, trials=1, seed=seed)
        if not (found and spec.unread):
            return found
        return at_another_length(found, self.modules[1], batch, program, spec, state, element)

    def _require_alike(self, number: int) -> None:
        try:
            require_pair(self.states[0], self.states[number])
        except SpecMismatchError as error:
            if len(self) == 2:
                raise
            raise SpecMismatchError(f"models 1 (A) and {number + 1} (B): {error}") from error
        self._require_ties(number)

    def _require_ties(self, number: int) -> None:
        """Raise SpecMismatchError for a tensor that the reference ties and this model has apart, with other numbers."""
        first, own, state = dict[Any, str](), like(self.states[number]), self.states[number]
        for name, tensor in like(self.states[0]).items():
            other = first.setdefault(memory_of(tensor), name)
            is_apart = isinstance(tensor, Tensor) and memory_of(own[name]) != memory_of(own[other])
            if is_apart and not torch.equal(state[name], state[other]):
                raise SpecMismatchError(
                    f"{name} and {other} are one tensor in {self.name(0)} and two in {self.name(number)}: untie them "
                    f"in {self.name(0)}, or give {self.name(number)} first"
                )


def _require_weights(state: State, name: str) -> None:
    """Raise CaptureError for weights without values, on meta."""
    empty = [] if isinstance(state, LazyState) else [key for key, tensor in state.items() if tensor.is_meta]
    if empty:
        raise CaptureError(f"{name} has no weights, only shapes, as of {few(empty, 3)}: load them first")


def require_pair(a: State, b: State) -> None:
    """Raise SpecMismatchError, with both shapes, unless two state dicts have one architecture's names and shapes."""
    shape_a, shape_b = ({name: shape_or_type(value) for name, value in like(state).items()} for state in (a, b))
    different = [
        f"{name}: {shape_a.get(name, 'absent')} in A, {shape_b.get(name, 'absent')} in B"
        for name in dict.fromkeys([*a, *b])
        if shape_a.get(name) != shape_b.get(name)
    ]
    if different:
        raise SpecMismatchError(
            f"the two models are not of one architecture: {few(different, 5, '; ')}; "
            "give two of the same shapes, choose what becomes of heads that differ (heads=, --heads), or enlarge B "
            "(pg.enlarge, --enlarge)"
        )


def differing_dtypes(a: State, b: State) -> list[str]:
    """The dtypes of the first floating-point tensor that has another in the other model."""
    mine, theirs = like(a), like(b)
    real = (name for name in mine if name in theirs and mine[name].is_floating_point())
    pairs = ((mine[name].dtype, theirs[name].dtype) for name in real)
    return next(([str(dtype).removeprefix("torch.") for dtype in pair] for pair in pairs if pair[0] != pair[1]), [])


def _shape(batch: Batch) -> Any:
    args, kwargs = batch
    leaves, structure = pytree.tree_flatten((args, dict(sorted(kwargs.items()))))
    return repr(structure), tuple((tuple(x.shape), x.dtype) if isinstance(x, Tensor) else repr(x) for x in leaves)


def _require_same_nodes(first: Program, other: Program) -> None:
    a, b = ([(n.name, str(n.target)) for n in p.graph.graph.nodes] for p in (first, other))
    if a != b:
        raise CalibrationError(
            "the model takes another path on a batch of another shape: give calibration batches of one shape"
        )
