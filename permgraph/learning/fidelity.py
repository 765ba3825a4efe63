"""How much of what two models compute a merge of them keeps, on unlabelled data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import isnan
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from permgraph.arguments import typed
from permgraph.comparing.batches import Batches, Progress
from permgraph.comparing.calibration import Calibration
from permgraph.errors import CalibrationError, OptionError
from permgraph.learning.heal import parents_of
from permgraph.learning.objective import Objective
from permgraph.progress import with_bar
from permgraph.tracing.loaded import Loaded
from permgraph.tracing.run import Runner

ROUNDING = 1e-13
"""The share of Σ |t|² or Σ t log t below which a difference of outputs is the rounding of float32."""


@dataclass(frozen=True)
class Fidelity:
    """1 - D(t, x) / D(t, c) for outputs x of a model, t the parents' mean outputs by share, c the best constant.

    1 for a model that computes t, 0 for one whose outputs do not depend on the input, and less for a worse one.

    Attributes:
        merge: of the merge.
        parents: the mean of both parents', by share: below 1 as far as these differ from each other.
        divergence: D(t, merge), mean over rows. Of logits in nats, the Kullback-Leibler divergence from the mean of
            the parents' distributions: about the height of the loss barrier, without labels.
        kind: "logits" or "features", of which D is the squared distance.
        rows: how many outputs were compared.

    """

    merge: float
    parents: float
    divergence: float
    kind: str
    rows: int

    def __str__(self) -> str:
        merge, parents = (
            f"{one:.1%}" if one > 0 else "nothing, less than a constant would," for one in (self.merge, self.parents)
        )
        apart = f", {self.divergence:.2g} nats apart" if self.kind == "logits" else ""
        return (
            f"the merge keeps {merge} of the mean of what A and B compute ({self.kind}{apart}); "
            f"each of them {parents} on average"
        )


@typed
@with_bar
def fidelity(
    state_dict: Mapping[str, Tensor],
    model_a: nn.Module | Loaded,
    model_b: nn.Module | Loaded,
    data: Iterable[Any],
    *,
    weight: float = 0.5,
    progress: Progress | None = None,
) -> Fidelity:
    """1 - D(t, f(θ)) / D(t, c): how much of t = λ f(A) + (1 - λ) f(B) a merge θ keeps, on unlabelled data.

    Which outputs count, and how they are compared, is as in `heal`. A merge can be broken though its alignment is
    proved, since the proof is of B moved alone; this tells without labels.

    Args:
        state_dict: the merge.
        model_a: a parent, in eval mode, or what `load` returned of it; neither is changed.
        model_b: the other parent, unmoved or moved: its outputs must mean the same.
        data: unlabelled batches, as for `align`: inputs as in use, or those of `synthetic`; random ones tell little.
        weight: λ, A's share.
        progress: called as progress(stage, done, total). By default a bar in a notebook, and nothing elsewhere.

    Raises:
        SpecMismatchError: the models and the state dict are not of one architecture.
        NonFiniteError: a weight is not finite.
        CalibrationError: the data is empty, or the outputs are not finite or all the same.
        OptionError: the model returns no tensor of real numbers, or a weight outside [0, 1].

    """
    if not (isinstance(weight, Real) and 0 <= weight <= 1):
        raise OptionError(f"weight, A's share of what the merge should compute, must be in [0, 1], not {weight!r}")
    calibration = Calibration(parents_of(state_dict, model_a, model_b), Batches.of(data), progress)
    return fidelity_of(calibration, state_dict, weight)


def fidelity_of(calibration: Calibration, state: Mapping[str, Tensor], weight: float = 0.5) -> Fidelity:
    """The same for parents as a calibration has them."""
    sums, kind = dict[tuple[int, int], Sums](), ""
    with torch.no_grad():
        for program, inputs, masks in calibration.inputs("fidelity"):
            merge = Runner(program, partial(calibration.fitted, state), calibration.dtype)
            objective, runners = Objective(program), (calibration.runner(program, one) for one in calibration.states)
            outputs = [runner.outputs(inputs) for runner in (merge, *runners)]
            for k, kind in objective.leaves.items():
                rows = objective.rows(k, outputs, masks)
                sums.setdefault((k, rows[0].shape[-1]), Sums(kind, weight)).add(*(one.double() for one in rows))
    constant = sum(one.constant for one in sums.values())
    far = [sum(one.far[n] for one in sums.values()) for n in range(3)]
    rows_seen = sum(one.rows for one in sums.values())
    if any(map(isnan, (constant, *far))):
        raise CalibrationError("outputs of these models are not finite and cannot be compared: look at the data")
    if constant <= ROUNDING * sum(abs(one.inner) for one in sums.values()):
        raise CalibrationError(
            f"the parents' outputs are the same in all rows ({rows_seen}), which tells nothing of a merge: give more "
            "inputs, or inputs that differ"
        )
    parents = weight * far[1] + (1 - weight) * far[2]
    return Fidelity(1 - far[0] / constant, 1 - parents / constant, far[0] / max(rows_seen, 1), kind, rows_seen)


@dataclass
class Sums:
    """Σ over rows of D(t, x) for the merge and both parents, and what the best constant needs.

    D(t, c) = Σ g(t) - n g(mean t), with g(t) = Σ t log t for distributions and |t|² for features.
    """

    kind: str
    share: float
    rows: int = 0
    far: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    whole: Any = 0.0
    inner: float = 0.0

    def add(self, merge: Tensor, a: Tensor, b: Tensor) -> None:
        """Count these rows, [rows, n] of each model."""
        made = [one.log_softmax(-1) if self.kind == "logits" else one for one in (merge, a, b)]
        of_a, of_b = (one.exp() if self.kind == "logits" else one for one in made[1:])
        target = self.share * of_a + (1 - self.share) * of_b
        own = self._inner(target)
        for n, one in enumerate(made):
            far = own - _expected(target, one) if self.kind == "logits" else (one - target).square().sum()
            self.far[n] += float(far)
        self.rows, self.whole, self.inner = self.rows + len(target), self.whole + target.sum(0), self.inner + float(own)

    @property
    def constant(self) -> float:
        """Σ D(t, c)."""
        return self.inner - self.rows * float(self._inner(self.whole / max(self.rows, 1)))

    def _inner(self, target: Tensor) -> Tensor:
        return torch.special.xlogy(target, target).sum() if self.kind == "logits" else target.square().sum()


def _expected(target: Tensor, logs: Tensor) -> Tensor:
    """Σ t x; a logit of -inf, which both parents bar, does not count: 0 log 0 = 0."""
    return (target * logs.clamp_min(torch.finfo(logs.dtype).min)).sum()
