"""Are two models the same up to symmetry, of common origin, or independent?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from permgraph.arguments import typed
from permgraph.comparing.batches import Batch, Batches, Progress
from permgraph.comparing.masks import finite
from permgraph.comparing.models import Models
from permgraph.errors import VerificationError
from permgraph.matching.alignment import Alignment, alignment_of
from permgraph.matching.fitting import example_of, fit
from permgraph.matching.match import Task
from permgraph.matching.pipeline import Matched, match_models
from permgraph.matching.trunks import bare_trunks, differ
from permgraph.progress import with_bar
from permgraph.symmetry.elements.permutations import Permutations
from permgraph.tracing.inputs import as_args
from permgraph.tracing.loaded import Loaded, module_of, state_of
from permgraph.tracing.run import one_sample
from permgraph.uses.canonical.form import rounding
from permgraph.uses.comparison import report
from permgraph.uses.comparison.chance import chance, moving, p_value
from permgraph.uses.comparison.settle import by_forms, is_near, is_whole, rounded_off, settled, squared_distance
from permgraph.uses.comparison.similarity import Measured, Similarity

RARE = 0.001
"""Models are related up to this p-value: none of 999 random elements came as close."""
HALF = 0.5
"""Models are related if the aligned cosine is above this fraction of the way from chance to 1."""
QUARTER = 0.25
LARGE = 10_000_000
"""Models of more elements are first matched in one round; matching continues only if this raises the cosine by more
than a quarter of the way from its unmoved value to 1."""
SMALL = 2_000_000
"""Models of at most this many elements are also compared by their canonical forms, if matching leaves a distance."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """How alike two models are, unmoved and up to symmetry.

    Attributes:
        verdict: "same", "related" or "independent".
        p_value: how often a random element of the group makes B as similar to A as it is unmoved; see `compare`.
        similarity: group -> cosines and distances of the tensors on which it acts.
        layers: layer -> the same of its tensors.
        tensors: tensor -> the same.
        whole: the same of all weights.
        chance: the aligned cosine, over the tensors that move, of unrelated weights; None if the verdict does not
            depend on it.
        moved: the aligned cosine over the tensors that move.
        tolerance: the aligned distance up to which the models are the same; 0 if the element only permutes and changes
            signs.
        alignment: the element that brings B to A, with its proof.
        heads: A's tensors that were not compared, since B's differ in shape; see `permgraph.matching.trunks`.

    """

    verdict: str
    p_value: float
    similarity: Mapping[str, Similarity]
    layers: Mapping[str, Similarity]
    tensors: Mapping[str, Similarity] = field(repr=False)
    whole: Similarity
    chance: float | None
    moved: float
    tolerance: float
    alignment: Alignment = field(repr=False)
    heads: tuple[str, ...] = ()

    @property
    def excess(self) -> float | None:
        """(moved - chance) / (1 - chance): 0 for weights without relation, 1 for the same ones."""
        if self.chance is None:
            return None
        return (self.moved - self.chance) / (1 - self.chance) if self.chance < 1 else float(self.moved >= 1)

    def __repr__(self) -> str:
        cosines = (
            f"the cosine of all weights is {self.whole.unmoved:.3f} unmoved, {self.whole.aligned:.3f} with B moved"
        )
        return f"Comparison({self.verdict}: {cosines})"

    def __str__(self) -> str:
        return report.text(self)

    def _repr_html_(self) -> str:
        return report.html(self)


@typed
@with_bar
def compare(
    model_a: nn.Module | Loaded,
    model_b: nn.Module | Loaded,
    data: Iterable[Any] | None = None,
    *,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    kinds: str = "all",
    outputs: str = "fixed",
    seed: int = 0,
    progress: Progress | None = None,
) -> Comparison:
    """min over g of |A - gB| / |A|, and what it says about the origin of B.

    "same": the distance is 0 up to the rounding of stored weights, and the element is in the result. "related": the
    weights are as close as those of a fine-tuned, continued or perturbed copy, unmoved (the p-value, by permutations
    alone, is at most 0.001) or after matching (the cosine is more than half of the way from chance to 1).
    "independent": neither; this includes copies that were trained for very long.

    Args:
        model_a: the reference, in eval mode; or what `load` returned.
        model_b: a model of the same architecture; its vocabulary, input channels and positions may differ, and its
            head, which is then not compared. Neither is changed.
        data: batches, to match units by activations; without, they are matched by weights.
        args: example inputs, as for `align`.
        kwargs: example keyword inputs.
        kinds: what may move, as for `align`.
        outputs: whether the outputs of B may be permuted, scaled and mixed too, as in `derive`.
        seed: of everything random.
        progress: called as progress(stage, done, total). By default a bar in a notebook, and nothing elsewhere.

    Returns:
        The verdict with its evidence: p-value, cosines and distances, unmoved and aligned.

    Raises:
        SpecMismatchError: the models differ in architecture.
        CalibrationError: the data is empty, not finite, constant or too short.

    """
    asked: dict[str, Any] = {
        "args": args, "kwargs": kwargs, "kinds": kinds, "outputs": outputs, "seed": seed, "progress": progress,
    }  # fmt: skip
    batches = None if data is None else Batches.of(data)
    fitted = fit((model_a, model_b), lambda: example_of(model_a, batches, args, kwargs))
    if differ(*(module_of(model).state_dict() for model in fitted.models)):
        found = compare_trunks(fitted.models[0], fitted.models[1], batches, **asked)
    else:
        found = compare_models(Models.of(fitted.models), batches, **asked)
    if not fitted:
        return found
    return replace(found, alignment=found.alignment.with_borders(fitted.borders[1], state_of(model_b)))


def compare_trunks(
    model_a: nn.Module | Loaded, model_b: nn.Module | Loaded, data: Iterable[Any] | None = None, **asked: Any
) -> Comparison:
    """`compare` for two models whose heads differ in shape: of the tensors that `heads` of the result does not name."""
    batches = None if data is None else Batches.of(data)
    example = example_of(model_a, batches, asked.get("args", ()), asked.get("kwargs"))
    kinds, outputs = asked.get("kinds", "all"), asked.get("outputs", "fixed")
    models, chosen, heads = bare_trunks(model_a, model_b, example, outputs, kinds)
    found = compare_models(models, batches, **asked, **chosen)
    alignment = replace(found.alignment, heads="first", kept=heads, given_b=dict(module_of(model_b).state_dict()))
    tensors = {name: one for name, one in found.tensors.items() if name not in heads}
    return replace(found, tensors=tensors, heads=heads, alignment=alignment)


def compare_models(models: Models, data: Iterable[Any] | None = None, **asked: Any) -> Comparison:
    """`compare` for two models that are traced already; the arguments are those of `match_models`."""
    batches = None if data is None else Batches.of(data)
    count = sum(tensor.numel() for tensor in models.states[0].values())
    look = {"options": {"rounds": 0}} if batches is None and count > LARGE and asked.get("method") is None else {}
    found = _compared(models, batches, asked | look)
    still = max(found.whole.unmoved, 0.0)  # uniform weights of norms agree in models of any origin
    undecided = found.verdict == "independent" and found.moved > still + QUARTER * (1 - still)
    return _compared(models, batches, asked) if look and undecided else found


def _compared(models: Models, batches: Batches | None, asked: Mapping[str, Any]) -> Comparison:
    matched = match_models(models, batches, **asked, proved=False)
    example = batches.first if batches is not None else _example(models, asked)
    seed = asked.get("seed", 0)
    found = alignment_of(_settled(matched, one_sample(example), seed))
    spec, (a, b) = found.spec, found.models.finite_states
    measured = Measured.of(spec, a, b, finite(found.state_dict, found.models.masks))
    names = moving(spec, a)
    whole = measured.similarity(measured.before)
    comparison = Comparison(
        "independent",
        p_value(spec, a, b, seed),
        measured.by_group(spec),
        measured.by_layer(),
        {name: measured.similarity([name]) for name in measured.before},
        whole,
        None,
        measured.similarity(names).aligned if names else whole.aligned,
        _tolerance(found),
        found,
    )
    return _judged(comparison, Task(found.models, spec, spec.groups, example, batches, seed))


def _example(models: Models, asked: Mapping[str, Any]) -> Batch:
    given = (as_args(asked.get("args", ())), dict(asked.get("kwargs") or {}))
    return given if any(given) else models.example


def _settled(found: Matched, example: Batch, seed: int) -> Matched:
    """The match proved, with the element from `settled` or from canonical forms if its proof holds."""
    first, element = found.elements
    closer = _closer(found)
    if closer is not element:
        try:
            return replace(found, elements=(first, closer)).proved(example, seed)
        except VerificationError:  # keep the element that matching found
            pass
    return found.proved(example, seed)


def _closer(found: Matched) -> Permutations:
    """An element that brings B closer to A than the one from matching, or else that one."""
    spec, (a, b) = found.spec, found.models.finite_states
    element = settled(spec, a, b, found.elements[1])
    is_small = sum(tensor.numel() for tensor in a.values()) <= SMALL
    if is_small and not is_near(spec, a, b, element) and (other := by_forms(spec, a, b)) is not None:
        element = min(element, other, key=lambda one: squared_distance(spec, a, b, one))
    return element


def _judged(found: Comparison, task: Task) -> Comparison:
    """The comparison with its verdict; `chance` is only computed if the verdict depends on it."""
    if found.whole.aligned_distance <= found.tolerance:
        return replace(found, verdict="same")
    if found.p_value <= RARE:
        return replace(found, verdict="related")
    if found.moved <= HALF:  # then it is less than half of the way from any chance to 1
        return found
    moves = any(layout.groups for layout in task.spec.layouts.values())
    found = replace(found, chance=chance(task, task.seed) if moves else 0.0)
    excess = found.excess
    return replace(found, verdict="related") if excess is not None and excess > HALF else found


def _tolerance(found: Alignment) -> float:
    """The distance that rounding and iterations explain; 0 if the element only permutes and changes signs.

    Folding norms rounds weights alike in both models, but in float32 and float64 scales may have been folded too, which
    changes the last bits.
    """
    precision = max(map(rounding, found.models.states))
    if all(is_whole(part) for part in found.permutations.values()):
        return precision if found.models.folds and precision <= torch.finfo(torch.float32).eps else 0.0
    return rounded_off(*found.models.states)
