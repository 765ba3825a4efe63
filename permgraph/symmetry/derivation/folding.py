"""Moves the weights of norms into the layers that read them, so that the residual stream can be rotated."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from permgraph.arguments import typed
from permgraph.checkpoints.lazy_state import LazyState
from permgraph.symmetry.derivation.affine import Affine, images, is_vector, through_images
from permgraph.symmetry.derivation.derive import Derivation
from permgraph.symmetry.elements.cells import Cell, Move
from permgraph.symmetry.elements.parts import Monomial
from permgraph.symmetry.specification.spec import PermutationSpec
from permgraph.tracing.capture import capture
from permgraph.tracing.inputs import as_args
from permgraph.tracing.loaded import Loaded, inputs_of, module_of
from permgraph.tracing.program import Program

ZEROS = "it has elements that are 0"
NO_READER = "what it scales is not only read by weights that can take the scale"
TIED = "it is read by a weight that is tied; untie=True gives the reader a weight of its own"


@dataclass(frozen=True, eq=False)
class Folded:
    """A model of the same class and function in which norms scale by 1.

    Attributes:
        state_dict: its weights; the same keys, shapes and dtypes.
        report: weight of a norm -> the parameters that it was moved into, or why it was kept.
        untied: names of tensors that were tied and no longer are; () if none.
        spec: a group of the model, with signs and scales.
        element: its element that folds; tensors that move with the weights take it too.

    """

    state_dict: Mapping[str, Tensor] = field(repr=False)
    report: Mapping[str, tuple[str, ...] | str]
    untied: tuple[str, ...] = ()
    spec: PermutationSpec = field(kw_only=True, repr=False)
    element: Mapping[str, Any] = field(kw_only=True, repr=False)

    def __repr__(self) -> str:
        return f"Folded({len(self.folded)} of {len(self.report)} norms scale by 1, {len(self.untied)} weights untied)"

    @property
    def folded(self) -> tuple[str, ...]:
        """The weights of norms that now scale by 1: these weights are 1, or 0 in a norm that scales by 1 + w."""
        return tuple(name for name, readers in self.report.items() if not isinstance(readers, str))


@typed
def fold(
    model: nn.Module | Loaded,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    untie: bool = False,
) -> Folded:
    """W ← W diag(a) for every reader W of a norm, b ← b / a, a ← 1: f is unchanged, and norms with weight 1 rotate.

    This is an element of the monomial group of the norm's result. The bias b is kept as a vector of the stream. If a is
    an affine function of the weight, such as 1 + w, the weight takes the value for which it is 1. All is computed in
    float64 and stored in the model's dtype; the model is not changed.

    Args:
        model: in eval mode; or what `load` returned, with its own inputs.
        args: example positional inputs.
        kwargs: example keyword inputs.
        untie: whether a reader whose weight is tied to one that writes the stream (the head of a language model, tied
            to the embedding) may get a separate weight.

    Returns:
        A new state dict (`state_dict`), and for each norm the readers of its weight, or why it was kept (`report`).

    Raises:
        CaptureError: the model cannot be traced.

    """
    module, (args, kwargs) = module_of(model), inputs_of(model, args, kwargs)
    state = {name: tensor.detach() for name, tensor in module.state_dict().items()}
    best = foldable(module, capture(module, args, kwargs), untie=untie, args=args, kwargs=kwargs)
    return best.folded((state,))[0]


def foldable(
    model: nn.Module, program: Program, *, untie: bool, args: Any = (), kwargs: Mapping[str, Any] | None = None
) -> Foldable:
    """The norms of a traced model that can be folded; with `untie`, after untying its weights if that allows more."""
    shared = tied(model)
    plain = Foldable.of(program)
    if not (shared and plain.stuck):
        return plain
    if untie:
        apart = separated(model, shared)
        found = replace(Foldable.of(capture(apart, as_args(args), kwargs)), untied=shared)
        if len(found.of_use) > len(plain.of_use):
            return found
    return replace(plain, may_untie=not untie)


def tied(model: nn.Module) -> tuple[str, ...]:
    """State-dict keys of tied parameters, except the first key of each."""
    return tuple(name for name, first in _first_names(model).items() if first != name)


def came_apart(model: nn.Module, state: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Keys of parameters that are one with an earlier one in the model, and differ from it in a state dict."""
    names = _first_names(model).items()
    return tuple(name for name, first in names if first != name and not torch.equal(state[name], state[first]))


def _first_names(model: nn.Module) -> dict[str, str]:
    first: dict[int, str] = {}
    every = model.named_parameters(remove_duplicate=False)
    return {name: first.setdefault(id(parameter), name) for name, parameter in every}


def separated(model: nn.Module, names: tuple[str, ...]) -> nn.Module:
    """A copy of a model in which the parameters of these names are separate parameters."""
    apart = copy.deepcopy(model)
    for name in names:
        path, _, leaf = name.rpartition(".")
        owner = apart.get_submodule(path)
        setattr(owner, leaf, nn.Parameter(getattr(owner, leaf).detach().clone(), requires_grad=False))
    for config in {id(c): c for m in apart.modules() if (c := getattr(m, "config", None)) is not None}.values():
        if getattr(config, "tie_word_embeddings", False):
            config.tie_word_embeddings = False
    return apart


@dataclass(frozen=True)
class Foldable:
    """The weights of norms without which a stream could be mixed, and the groups that scale them.

    Weights that are `stuck` cannot be folded, as their result has other readers; folding those `of_use` allows a stream
    to be mixed nevertheless. `spec` is the group of the model whose parameters are the `maps` of these weights.
    """

    spec: PermutationSpec
    elements: Mapping[str, tuple[Cell, Move]]
    maps: Mapping[str, Affine]
    stuck: tuple[str, ...]
    of_use: frozenset[str]
    untied: tuple[str, ...] = ()
    may_untie: bool = False

    @classmethod
    def of(cls, program: Program) -> Foldable:
        """All that a program has."""
        known = images(program)
        derivation = Derivation(program, "fixed", {}, "all", tuple(known))
        wanted = sorted(derivation.grouping.changes.held)
        spec = Derivation(through_images(program, {name: known[name] for name in wanted}), "fixed", {}, "all").spec
        found = {name: scaling for name in wanted if (scaling := _scaling(spec, name, wanted)) is not None}
        stuck = tuple(name for name in wanted if name not in found)
        of_use = derivation.held_of(found) if stuck else frozenset(found)
        return cls(spec, found, {name: known[name].map for name in wanted}, stuck, of_use)

    def folded(self, states: Sequence[Mapping[str, Tensor]]) -> list[Folded]:
        """Models of one architecture, folded in the same way: a weight that cannot be folded in one is kept in all."""
        zeros = [
            name for name in self.elements if any(bool((self.maps[name](state[name]) == 0).any()) for state in states)
        ]
        return [self._folded(state, zeros) for state in states]

    def _folded(self, state: Mapping[str, Tensor], zeros: Collection[str]) -> Folded:
        element, report = self._element(state, zeros)
        ones = [name for name, readers in report.items() if not isinstance(readers, str)]
        apart = self._apart(state)
        moved = self.spec.applied(element, apart)
        neutral = {name: torch.full_like(apart[name], self.maps[name].neutral) for name in ones}
        moved = moved.replaced(neutral) if isinstance(moved, LazyState) else {**moved, **neutral}
        return Folded(moved, report, self.untied, spec=self.spec, element=element)

    def _apart(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The state in which the untied weights share no memory."""
        if not self.untied:
            return state
        if isinstance(state, LazyState):
            return replace(
                state, like={**state.like, **{name: torch.empty_like(state.like[name]) for name in self.untied}}
            )
        return {name: tensor.clone() for name, tensor in state.items()}

    def _element(
        self, state: Mapping[str, Tensor], zeros: Collection[str]
    ) -> tuple[Mapping[str, Any], dict[str, tuple[str, ...] | str]]:
        """The element that makes every weight 1, and what to report."""
        element, report = dict(self.spec.identity()), dict[str, tuple[str, ...] | str]()
        for name, (cell, move) in self.elements.items():
            if name in zeros:
                report[name] = ZEROS
                continue
            weight = self.maps[name](state[name]).reshape(-1).cpu().numpy()
            part = element[move.group]
            scale = part.scale.copy()
            here = cell.coordinates()
            rows = tuple(cell.ravel(here, key) for key in (*move.keys, move.leaves))
            along = max(range(state[name].dim()), key=lambda dim: state[name].shape[dim])
            scale[rows] = weight[cell.positions(along, here)] ** (-1 / move.power)
            element[move.group] = Monomial(part.index, scale)
            axes = self.spec[move.group].axes
            report[name] = tuple(key for key, _ in axes if key != name and not is_vector(self.spec.shapes[key]))
        report |= dict.fromkeys(self.stuck, TIED if self.may_untie else NO_READER)
        return element, report


def _scaling(spec: PermutationSpec, name: str, wanted: list[str]) -> tuple[Cell, Move] | None:
    """The group that scales this vector and no other one in `wanted`, and its move on the vector's cell."""
    layout = spec.layouts[name]
    if len(layout.cells) != 1:
        return None
    for move in layout.cells[0].moves:
        group = spec[move.group]
        others = {key for key, _ in group.axes} & set(wanted) - {name}
        if group.kind == "monomial" and abs(move.power) == 1 and not others:
            return layout.cells[0], move
    return None
