"""Two models: B moved to A."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from permgraph.checkpoints.lazy_state import LazyState
from permgraph.comparing.batches import Batches, Progress
from permgraph.comparing.models import Models
from permgraph.learning.descent import Descent
from permgraph.matching import gains_report
from permgraph.matching.borders import Borders
from permgraph.matching.fitting import example_of, fit
from permgraph.matching.gains import Gain
from permgraph.matching.partners import Partners
from permgraph.matching.pipeline import Matched, match_models
from permgraph.matching.trunks import differ, match_trunks, require_heads
from permgraph.matching.weights.search import WeightSearch
from permgraph.progress import with_bar
from permgraph.symmetry.permutations import Permutations
from permgraph.symmetry.spec import PermutationSpec
from permgraph.symmetry.verification import Certificate
from permgraph.tracing.loaded import Loaded, module_of, state_of

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

    def moved(self, name: str) -> Tensor:
        """One entry of `state_dict`, without computing the others."""
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


@with_bar
def align(
    model_a: nn.Module | Loaded,
    model_b: nn.Module | Loaded,
    data: Iterable[Any] | None = None,
    *,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    spec: PermutationSpec | None = None,
    method: str | None = None,
    mix: float | None = None,
    point_weights: Mapping[str, Sequence[float]] | None = None,
    groups: Sequence[str] | str | None = None,
    outputs: str = "fixed",
    kinds: str = "permutation",
    heads: str = "merge",
    seed: int = 0,
    progress: Progress | None = None,
    **options: Any,
) -> Alignment:
    """Match the units of B to those of A, and prove that moving them leaves B's function unchanged.

    Args:
        model_a: the reference, in eval mode; or what `load` returned, which has example inputs of its own.
        model_b: the model to move; neither is changed.
        data: batches for both models: a tensor, a tuple of args or a dict of kwargs each. Batches of one shape are
            fastest, since every new shape is traced anew.
        args: example inputs, for tracing without data and for the proof, which is faster for smaller inputs; the first
            sample of the first batch by default.
        kwargs: example keyword inputs.
        spec: the groups; derived with `outputs` by default.
        method: "correlation" (default with data), "weights" (default without), or "learned": by gradient on unlabelled
            data, with the options `start` (an alignment), `steps`, `rate` and `loss` of `learn`.
        mix: instead of a method, the share of activations in the objective: 1 is correlation, 0 is weights; in between
            it is (1 - mix) F / F_max + mix C / C_max, both at most 1 (MuDSC, arXiv 2403.01753).
        point_weights: role or name of a group -> a weight for each of the points where its activations are compared,
            first to last; 0 leaves a point out. All 1 by default.
        groups: roles or names of the groups to move, or one of them ("attention" covers all roles that begin with it);
            the others stay at the identity. All by default.
        outputs: whether the model's outputs may be permuted, as in `derive`; ignored when `spec` is given.
        kinds: "permutation"; "signed", with signs; or "all": scales, rotations and invertible maps too. With "all", the
            weights of norms are folded into the layers that read them, in both models, and a head that is tied to the
            embedding is untied: see `fold`, `Alignment.reference` and `Alignment.untied`.
        heads: "merge": the models must have the same tensors. "first" and "both": tensors that differ in shape, or that
            only one model has, are heads; the trunk is matched, and a merge keeps A's head. With "both",
            `Alignment.heads_b` has B's.
        seed: of the verification, and of further starts with weights.
        progress: called as progress(stage, done, total). By default a bar in a notebook, and nothing elsewhere.
        options: further options of the method, by name.

    Returns:
        The element that moves B, its proof, and the moved weights of B (`state_dict`).

    Raises:
        SpecMismatchError: the models differ in architecture, or `groups` names nothing.
        OptionError: `method`, `mix`, `point_weights` or another option is not what it can be.
        CalibrationError: the data is empty, not finite, constant or too short.
        VerificationError: the alignment would change B's function; nothing is returned.

    """
    require_heads(heads)
    data = None if data is None else Batches.of(data)
    asked = {
        "args": args, "kwargs": kwargs, "method": method, "groups": groups, "outputs": outputs, "kinds": kinds,
        "seed": seed, "progress": progress,
        "options": {"mix": mix, "point_weights": point_weights} | options,
    }  # fmt: skip
    fitted = fit((model_a, model_b), lambda: example_of(model_a, data, args, kwargs))
    a, b = fitted.models
    if heads != "merge" and differ(*(module_of(model).state_dict() for model in (a, b))):
        aligned = align_trunks(a, b, data, heads, spec=spec, **asked)
    else:
        aligned = align_models(Models.of((a, b)), data, spec=spec, **asked)
        aligned = replace(aligned, heads_b={}) if heads == "both" else aligned
    return aligned.with_borders(fitted.borders[1], state_of(model_b)) if fitted else aligned


def align_trunks(
    model_a: nn.Module | Loaded, model_b: nn.Module | Loaded, data: Iterable[Any] | None, heads: str, **asked: Any
) -> Alignment:
    """`align` for two models whose heads differ, see `permgraph.matching.trunks`."""
    trunks = match_trunks(model_a, model_b, data, **asked)
    moved = trunks.heads_b if heads == "both" else None
    aligned = alignment_of(trunks.matched)
    return replace(aligned, certificate=trunks.certificate, heads=heads, kept=trunks.kept, heads_b=moved)


def align_models(models: Models, data: Iterable[Any] | None = None, **asked: Any) -> Alignment:
    """`align` for two models that are traced already; the arguments are those of `match_models`."""
    return alignment_of(match_models(models, data, **asked))


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
