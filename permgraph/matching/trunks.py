"""Two models whose heads differ: the trunk that they share is matched, and each model keeps its own head.

The rule. A tensor belongs to a head if its shape differs, if only one model has it, or if all operations that read it
depend on such a tensor. All other tensors belong to the trunk. The trunk is matched with all heads set to zero. Then
the whole of B is moved, by the element of its own group that acts on the trunk in the same way, and the certificate is
about the whole of B.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from permgraph.comparing.batches import Batches
from permgraph.comparing.models import Models
from permgraph.errors import OptionError, SpecMismatchError, VerificationError
from permgraph.matching.groups import select
from permgraph.matching.pipeline import Matched, match_models
from permgraph.symmetry.derivation.affine import uniform_among
from permgraph.symmetry.derivation.derive import Derivation
from permgraph.symmetry.derivation.folding import Folded, foldable
from permgraph.symmetry.elements.permutations import PermutationGroup, Permutations
from permgraph.symmetry.proof.verification import Certificate, certify
from permgraph.symmetry.specification.spec import PermutationSpec
from permgraph.tracing.capture import capture
from permgraph.tracing.inputs import as_args
from permgraph.tracing.loaded import Loaded, inputs_of, module_of, tie_of
from permgraph.tracing.program import Program
from permgraph.tracing.run import bind, one_sample
from permgraph.wording import few

HEADS = ("merge", "first", "both")
State = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Trunks:
    """The matched trunk: B on A's shapes with A's head, the proof that B keeps its function, and B's moved head.

    `kept`: names of A's head; `heads_b`: name in B -> B's tensor, moved into the order of the trunk.
    """

    matched: Matched
    certificate: Certificate
    kept: tuple[str, ...]
    heads_b: dict[str, Tensor]


def differ(a: State, b: State) -> bool:
    """Whether some tensor has another shape in the other model, or is missing there."""
    return bool(_border(a, b))


def require_heads(heads: str) -> None:
    """Raise OptionError unless `heads` is one of `HEADS`."""
    if heads not in HEADS:
        raise OptionError(f"heads is one of {', '.join(HEADS)}, not {heads!r}")


def match_trunks(
    model_a: nn.Module | Loaded,
    model_b: nn.Module | Loaded,
    data: Iterable[Any] | None = None,
    *,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    spec: PermutationSpec | None = None,
    groups: Sequence[str] | str | None = None,
    outputs: str = "fixed",
    kinds: str = "permutation",
    seed: int = 0,
    **more: Any,
) -> Trunks:
    """The trunk of B matched to that of A; the arguments are those of `match_models`.

    With `kinds="all"`, both models are folded as wholes first, so that what a norm scales may be a head.
    Raises SpecMismatchError if the models share no group, and what `match_models` raises.
    """
    batches = None if data is None else Batches.of(data)
    given = (as_args(args), dict(kwargs or {}))
    given = given if any(given) else inputs_of(model_a)
    example = given if batches is None else batches.first
    pair, chosen = _pair_of(model_a, model_b, example, groups, spec, outputs, kinds)
    bare = pair.models.states[1]
    matched = match_models(
        pair.models, batches, args=given[0], kwargs=given[1], spec=pair.spec_a,
        groups=chosen, seed=seed, **more,
    )  # fmt: skip
    element = pair.element_of_b(matched.elements[1])
    sample = one_sample(given if any(given) else pair.example)
    certificate = _proof(capture(pair.b, *sample), pair.spec_b, pair.state_b, element, sample, seed)
    moved = pair.spec_b.apply(element, pair.state_b)
    pair.require_alike(matched.spec.apply(matched.elements[1], bare), moved)
    return Trunks(
        replace(matched, models=pair.whole(matched, bare), untied=()),
        certificate,
        tuple(name for name in pair.state_a if name in pair.heads),
        {name: tensor for name, tensor in moved.items() if name in pair.heads},
    )


def bare_trunks(
    model_a: nn.Module | Loaded, model_b: nn.Module | Loaded, example: Any, outputs: str, kinds: str
) -> tuple[Models, dict[str, Any], tuple[str, ...]]:
    """Both models on A's shapes with all heads zero, so that they differ in their trunks alone; how to match them, as
    arguments of `match_models`; and the names of A's head.

    Raises SpecMismatchError if the models share no group.
    """
    pair, chosen = _pair_of(model_a, model_b, example, None, None, outputs, kinds)
    heads = tuple(name for name in pair.state_a if name in pair.heads)
    bare = _bare(pair.state_a, pair.state_a, heads)
    return pair.models.with_states(bare, pair.models.states[1]), {"spec": pair.spec_a, "groups": chosen}, heads


def _pair_of(
    model_a: nn.Module | Loaded,
    model_b: nn.Module | Loaded,
    example: Any,
    groups: Sequence[str] | str | None,
    spec: PermutationSpec | None,
    outputs: str,
    kinds: str,
) -> tuple[_Pair, list[str]]:
    """Two models with one trunk, and those of `groups` that move it. Raises SpecMismatchError if there are none."""
    pair = _Pair.of(model_a, model_b, example, spec, outputs, kinds)
    chosen = [group.name for group in select(pair.spec_a, groups) if group.name in pair.partners]
    if not chosen:
        raise SpecMismatchError(
            f"the two models share no units that could be matched: {few(sorted(pair.border))} differ in shape, or "
            "are in one model alone, and all that is computed with them belongs to the heads. Give models with one "
            "trunk."
        )
    return pair, chosen


@dataclass(frozen=True, eq=False)
class _Pair:
    """Two models with one trunk: their groups, the tensors of their heads, and which groups are the same."""

    models: Models
    b: nn.Module
    example: Any
    state_a: State
    state_b: State
    spec_a: PermutationSpec
    spec_b: PermutationSpec
    border: frozenset[str]
    heads: frozenset[str]

    @classmethod
    def of(
        cls,
        model_a: nn.Module | Loaded,
        model_b: nn.Module | Loaded,
        example: Any,
        spec: PermutationSpec | None,
        outputs: str,
        kinds: str,
    ) -> _Pair:
        """Both models traced on `example`, folded for all kinds, and their tensors divided into trunk and heads."""
        modules = module_of(model_a), module_of(model_b)
        models = Models.of((model_a, model_a))
        programs = models.program(example), capture(modules[1], *example)
        states: list[State] = [dict(module.state_dict()) for module in modules]
        kinds = kinds if spec is None else spec.kinds
        if kinds == "all":
            folds = tuple(map(_folded, modules, programs, states, (example, example)))
            states = [dict(fold.state_dict) for fold in folds]
            models = replace(models, folds=folds)
        border = _border(*states)
        heads = frozenset(border.union(*(_after(program, border) for program in programs)))
        models = models.with_states(states[0], _bare(states[0], states[1], heads))
        spec_a = spec or models.derivation(example, outputs, kinds).spec
        uniform = uniform_among(programs[1], states[1:]) if kinds == "all" else ()
        spec_b = Derivation(programs[1], outputs, tie_of(model_b), kinds, uniform).spec
        return cls(models, modules[1], example, states[0], states[1], spec_a, spec_b, frozenset(border), heads)

    @cached_property
    def partners(self) -> dict[str, str]:
        """Group of A -> the group of B that moves the same axes of the trunk."""
        return _partners(self.spec_a, self.spec_b, self.heads)

    def element_of_b(self, element: Permutations) -> Permutations:
        """The element of B's own group that acts on the trunk as an element of A's group does."""
        return Permutations({**self.spec_b.identity(), **{b: element[a] for a, b in self.partners.items()}})

    def require_alike(self, trunk: State, moved: State) -> None:
        """Raise VerificationError unless the trunk alone and the whole of B move to the same tensors."""
        if not all(name in self.heads or torch.equal(tensor, moved[name]) for name, tensor in trunk.items()):
            raise VerificationError("the trunks of the two models do not move alike: give models with one trunk")

    def whole(self, matched: Matched, bare: State) -> Models:
        """A, and the trunk of B with A's heads, moved so that the element moves them back."""
        back = matched.spec.apply(matched.spec.invert(matched.elements[1]), self.state_a)
        heads = {name: tensor for name, tensor in back.items() if name in self.heads}
        return self.models.with_states(self.state_a, {**bare, **heads})


def _folded(module: nn.Module, program: Program, state: State, example: Any) -> Folded:
    """A model with its norms folded, as far as its tied weights allow it."""
    args, kwargs = example
    found = foldable(module, program, untie=False, args=args, kwargs=kwargs)
    return found.folded((state,))[0]


def _bare(a: State, b: State, heads: Collection[str]) -> dict[str, Tensor]:
    """The trunk of B with heads of A's shapes that are all zero."""
    return {name: torch.zeros_like(tensor) if name in heads else b[name] for name, tensor in a.items()}


def _border(a: State, b: State) -> set[str]:
    shapes = [{name: tuple(tensor.shape) for name, tensor in state.items()} for state in (a, b)]
    return {name for name in shapes[0].keys() | shapes[1].keys() if shapes[0].get(name) != shapes[1].get(name)}


def _after(program: Program, border: Collection[str]) -> set[str]:
    """The tensors that are read only together with what is computed from those in `border`."""
    known = {program.names.get(name, name) for name in border}
    places = {n: program.feeds[n.name].name for n in program.graph.graph.nodes if n.name in program.feeds}
    reached = {node for node, name in places.items() if name in known}
    for node in program.graph.graph.nodes:
        if any(source in reached for source in node.all_input_nodes):
            reached.add(node)
    after = {name for node, name in places.items() if node.users and all(user in reached for user in node.users)}
    return {name for name, place in program.names.items() if place in after}


def _partners(a: PermutationSpec, b: PermutationSpec, heads: Collection[str]) -> dict[str, str]:
    """Group of A -> the group of B that moves the same axes of the trunk, in the same way."""
    found: dict[str, str] = {}
    theirs = {_trunk_axes(group, heads): group for group in b.groups}
    for group in a.groups:
        axes = _trunk_axes(group, heads)
        other = theirs.get(axes)
        alike = other is not None and (other.table_shape, other.kind) == (group.table_shape, group.kind)
        if other is not None and axes and alike:
            found[group.name] = other.name
    return found


def _trunk_axes(group: PermutationGroup, heads: Collection[str]) -> frozenset[tuple[str, int]]:
    return frozenset((name, dim) for name, dim in group.axes if name not in heads)


def _proof(
    program: Program, spec: PermutationSpec, state: State, element: Permutations, example: Any, seed: int
) -> Certificate:
    inputs = bind(program, *example)
    found = certify(program, spec, state, inputs, element=element, trials=1, seed=seed)
    if not found.ok:
        raise VerificationError(f"the head of B cannot move along: {found}; exclude those groups with groups=")
    return found
