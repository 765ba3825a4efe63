"""Two models whose heads differ: the trunk that they share is matched, and each model keeps its own head.

The rule. A tensor belongs to a head if its shape differs, if only one model has it, or if all operations that read it
depend on such a tensor. All other tensors belong to the trunk. The trunk is matched with all heads set to zero. Then
the whole of B is moved, by the element of its own group that acts on the trunk in the same way, and the certificate is
about the whole of B.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from permgraph.checkpoints.json_files import shorten
from permgraph.comparing.batches import Batches
from permgraph.comparing.models import Models
from permgraph.errors import OptionError, SpecMismatchError, VerificationError
from permgraph.matching.groups import select
from permgraph.matching.pipeline import Matched, match_models
from permgraph.symmetry.derivation import Derivation
from permgraph.symmetry.permutations import PermutationGroup, Permutations
from permgraph.symmetry.spec import PermutationSpec
from permgraph.symmetry.verification import Certificate, certify
from permgraph.tracing.capture import capture
from permgraph.tracing.inputs import as_args
from permgraph.tracing.loaded import Loaded, inputs_of, module_of, tie_of
from permgraph.tracing.program import Program
from permgraph.tracing.run import bind, one_sample

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

    Raises SpecMismatchError if the models share no group, OptionError for kinds other than permutations, and what
    `match_models` raises.
    """
    if kinds != "permutation":
        raise OptionError("models whose heads differ can only be matched by permutations: omit kinds")
    batches = None if data is None else Batches.of(data)
    given = (as_args(args), dict(kwargs or {})) if args or kwargs else inputs_of(model_a)
    example = given if batches is None else batches.first
    b = module_of(model_b)
    states = dict(module_of(model_a).state_dict()), dict(b.state_dict())
    one = Models.of((model_a, model_a))
    programs = [one.program(example), capture(b, *example)]
    border = _border(*states)
    heads = {name for program in programs for name in _after(program, border)} | border
    mine = spec or one.derivation(example, outputs).spec
    there = Derivation(programs[1], outputs, tie_of(model_b)).spec
    partners = _partners(mine, there, heads)
    chosen = [group.name for group in select(mine, groups) if group.name in partners]
    if not chosen:
        raise SpecMismatchError(
            f"the two models share no units that could be matched: {shorten(sorted(border))} differ in shape, or are "
            "in one model alone, and all that is computed with them belongs to the heads. Give models with one trunk."
        )
    bare = {n: torch.zeros_like(t) if n in heads else states[1][n] for n, t in states[0].items()}
    found = match_models(
        one.with_states(states[0], bare), batches, args=given[0], kwargs=given[1], spec=mine, groups=chosen,
        seed=seed, **more,
    )  # fmt: skip
    element = Permutations({**there.identity(), **{other: found.elements[1][name] for name, other in partners.items()}})
    sample = one_sample(given if any(given) else example)
    certificate = _proof(capture(b, *sample), there, states[1], element, sample, seed)
    moved, trunk = there.apply(element, states[1]), found.spec.apply(found.elements[1], bare)
    if not all(name in heads or torch.equal(tensor, moved[name]) for name, tensor in trunk.items()):
        raise VerificationError("the trunks of the two models do not move alike: give models with one trunk")
    own = found.spec.apply(found.spec.invert(found.elements[1]), states[0])
    whole = one.with_states(states[0], bare | {name: own[name] for name in own if name in heads})
    return Trunks(
        Matched(whole, found.spec, found.method, found.matches, found.elements, found.certificates),
        certificate,
        tuple(name for name in states[0] if name in heads),
        {name: tensor for name, tensor in moved.items() if name in heads},
    )


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
        if other is not None and axes and other.table_shape == group.table_shape:
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
