"""Two models: B moved to A."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from permgraph.arguments import typed
from permgraph.comparing.batches import Batches, Progress
from permgraph.comparing.models import Models
from permgraph.matching.alignment import Alignment, alignment_of
from permgraph.matching.fitting import example_of, fit
from permgraph.matching.pipeline import match_models
from permgraph.matching.trunks import differ, match_trunks, require_heads
from permgraph.progress import with_bar
from permgraph.symmetry.specification.spec import PermutationSpec
from permgraph.tracing.loaded import Loaded, module_of, state_of


@typed
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
    aligned = replace(alignment_of(trunks.matched), given_b=dict(module_of(model_b).state_dict()))
    return replace(aligned, certificate=trunks.certificate, heads=heads, kept=trunks.kept, heads_b=moved)


def align_models(models: Models, data: Iterable[Any] | None = None, **asked: Any) -> Alignment:
    """`align` for two models that are traced already; the arguments are those of `match_models`."""
    return alignment_of(match_models(models, data, **asked))
