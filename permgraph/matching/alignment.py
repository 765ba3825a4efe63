"""What an alignment is: B moved to A, the gains, and the proof."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from permgraph.arguments import typed
from permgraph.checkpoints.lazy_state import LazyState
from permgraph.comparing.models import Models
from permgraph.learning.descent import Descent
from permgraph.matching import gains_report
from permgraph.matching.borders import Borders
from permgraph.matching.gains import Gain
from permgraph.matching.partners import Partners
from permgraph.matching.pipeline import Matched
from permgraph.matching.weights.search import WeightSearch
from permgraph.symmetry.elements.permutations import Permutations
from permgraph.symmetry.proof.verification import Certificate
from permgraph.symmetry.specification.spec import PermutationSpec

if TYPE_CHECKING:
    from permgraph.uses.comparison.relatives import Related


@dataclass(frozen=True, eq=False)
class Alignment:
    """B moved to A.

    Attributes:
        permutations: the element of the symmetry group that moves B's units to match A's, new = old[perm].
        spec: the group.
        gains: group -> its objective at the identity and at the solution.
        certificate: the proof that this element leaves B's function unchanged.
        method: "correlation", "weights", "mix" or another matcher's name.
        models: A and B, with their traced programs.
        exact: groups whose assignment is a proven optimum of its objective.
        search: with weights or a mix, how the search ended: objective, bound, gap, whether at a fixed point.
        partners: with correlation or a mix, what each unit correlates with, unmoved and moved, point by point.
        untied: names of tensors that were tied and no longer are, () if none. A model that loads the state dict must
            have a separate parameter for each.
        descent: with "learned", the loss at each step.
        heads: how tensors of different shapes were treated: "merge" if there are none, "first" or "both".
        kept: names of A's head, if heads differ: a merge keeps it. `state_dict` has it in place of B's.
        heads_b: with "both", B's head by B's names, moved into the order of the trunk: `{**merged, **heads_b}` is a
            state dict of B's class.
        borders: other axes at which the models differ, such as rows of tokens, and how they were treated. `state_dict`
            has B on the axes of the output, with zeros where B has no entry; `state_of_b` has it on its own axes.

    """

    permutations: Permutations
    spec: PermutationSpec
    gains: Mapping[str, Gain]
    certificate: Certificate
    method: str
    exact: tuple[str, ...]
    models: Models = field(repr=False)
    search: WeightSearch | None = None
    partners: tuple[Partners, ...] = ()
    untied: tuple[str, ...] = ()
    descent: Descent | None = None
    heads: str = "merge"
    kept: tuple[str, ...] = ()
    heads_b: Mapping[str, Tensor] | None = field(default=None, repr=False)
    borders: Borders = field(default_factory=Borders, repr=False)
    given_b: Mapping[str, Tensor] | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return gains_report.text(self)

    def __repr__(self) -> str:
        return f"Alignment({gains_report.headline(self)})"

    def _repr_html_(self) -> str:
        from permgraph.pages.cell import alignment_cell

        return alignment_cell(self)

    @property
    def reference(self) -> Mapping[str, Tensor]:
        """A's weights as a merge takes them: with norms folded if the kinds require it, else unchanged."""
        state = self.models.states[0]
        return state if isinstance(state, LazyState) else dict(state)

    @cached_property
    def state_dict(self) -> Mapping[str, Tensor]:
        """B's weights, moved; computed on first use, or tensor by tensor if the weights are read on demand."""
        return self.spec.applied(self.permutations, self.models.states[1])

    @typed
    def moved(self, name: str) -> Tensor:
        """One entry of `state_dict`, without computing the others. Raises SpecMismatchError for another name."""
        self.spec.shape_of(name)
        state = self.models.states[1]
        least = state.least if isinstance(state, LazyState) else torch.float64
        return self.spec.apply_one(self.permutations.tables, name, state[name], least)

    @cached_property
    def related(self) -> Related | None:
        """The evidence that A and the unmoved B are relatives, such as fine-tunes of one base; None if they are not."""
        from permgraph.uses.comparison.relatives import related

        a, b = self.models.states
        return related(self.spec, a, b)

    @property
    def state_of_b(self) -> Mapping[str, Tensor]:
        """B's weights, moved, for B's class: with its own borders and, if `heads` is "both", its own head."""
        lost = () if self.heads_b is None else self.kept
        whole = self.state_dict
        if lost or self.heads_b:
            whole = {n: t for n, t in whole.items() if n not in lost} | dict(self.heads_b or {})
        return self.borders.own(self.given_b or {}, whole, self._stages)

    def with_borders(self, borders: Borders, given_b: Mapping[str, Tensor]) -> Alignment:
        """The same with the axes at which B, whose weights are `given_b`, was fitted to A; they must not move."""
        borders.require_unmoved(self.spec)
        return replace(self, borders=borders, given_b=given_b)

    @property
    def _stages(self) -> list[tuple[PermutationSpec, Mapping[str, Any]]]:
        """The groups and elements applied to B, in order: folding its norms if the kinds require it, then moving it."""
        folds = [(fold.spec, fold.element) for fold in self.models.folds[1:2]]
        return [*folds, (self.spec, self.permutations)]

    @typed
    def apply(
        self, tensors: Mapping[str, Tensor], *, what: str = "weights", transposed: bool | None = None
    ) -> dict[str, Tensor]:
        """apply(θ_B' - θ_B) = moved θ_B' - moved θ_B: tensors with the names and axes of B's weights, moved as B is.

        Args:
            tensors: tensors by the model's names, such as task vectors, averages and masks of weights; or an adapter's
                by PEFT's names: low-rank factors A and B of B @ A, and whole tensors.
            what: "weights", for tensors that transform as weights do; "gradients", for gradients and their averages,
                which take the inverse of scales and invertible maps; or "squares", for averages of squared gradients.
            transposed: whether the weights of factors are stored as (in, out), for all of them; by default it is read
                off the modules.

        Raises:
            SpecMismatchError: a name or a shape that the model does not have, a factor of a weight whose two axes move
                jointly, or squares of units that are mixed; the message names it.
            OptionError: `what` is none of these.

        """
        from permgraph.uses.carrying import carried

        module = self.models.modules[1]
        return carried(self._stages, tensors, what, lambda name: is_in_out(module, name, transposed))

    @typed
    def stream(self, vector: Tensor, *, at: str | None = None, read: bool = False) -> Tensor:
        """stream(h_B(x)) = h of the moved B at x: vectors of a residual stream, [..., d], moved as B's are.

        Args:
            vector: steering vectors, directions that a dictionary writes, means of activations.
            at: a module that adds to the stream, or a group that moves it; needed if there are several of this size.
            read: whether the vectors are read from the stream by inner products, as the encoder of a dictionary or a
                probe does; it differs for invertible maps and scales.

        Raises:
            SpecMismatchError: no stream of this size moves, or several.

        """
        from permgraph.uses.carrying import carried_vector

        return carried_vector(self._stages, vector, at, read=read)


def is_in_out(module: nn.Module, weight: str, given: bool | None) -> bool:
    """Whether a weight is stored as (in, out), as in the `Conv1D` of transformers, which has its `nf` outputs last."""
    owner = module.get_submodule(weight.rpartition(".")[0])
    return bool(given) if given is not None else not isinstance(owner, nn.Embedding) and hasattr(owner, "nf")


def alignment_of(matched: Matched) -> Alignment:
    """The alignment of two models that were matched and proved."""
    match, certificate = matched.matches[1], matched.certificates[1]
    assert certificate is not None
    return Alignment(
        matched.elements[1],
        matched.spec,
        match.gains,
        certificate,
        matched.method,
        match.exact,
        matched.models,
        match.search,
        match.partners,
        matched.untied,
        match.descent,
    )
