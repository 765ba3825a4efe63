"""Descent by gradient on unlabelled batches: one loop for all that is learned."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import torch
from torch import Tensor

from permgraph.comparing.batches import Batch
from permgraph.comparing.calibration import Calibration
from permgraph.errors import CalibrationError, OptionError
from permgraph.wording import described

HELD_OUT = 10  # of so many batches one is held out
JUDGES = 64  # but not more of them than have so many outputs
CHECKS = 20  # how often they are looked at
PATIENCE = 7  # checks in a row without a lower loss, after which a descent ends

Value = Callable[[Batch, float], Tensor]
"""(batch, u) -> the loss; u is uniform in (0, 1) for each step, and .5 on batches held out."""


@dataclass(frozen=True)
class Descent:
    """Where a descent came to.

    Attributes:
        x: what was learned: at the end, or where the loss on batches held out was least.
        losses: the loss at each step.
        held_out: (step, mean loss on the batches held out); () where none was.

    """

    x: Mapping[str, Tensor] = field(repr=False)
    losses: tuple[float, ...] = field(repr=False)
    held_out: tuple[tuple[int, float], ...]


def descend(
    value: Value,
    x: Mapping[str, Tensor],
    calibration: Calibration,
    stage: str,
    *,
    size: int,
    steps: int,
    rate: float,
    seed: int,
    betas: tuple[float, float] = (0.9, 0.999),
    paces: Mapping[str, float] | None = None,
) -> Descent:
    """Adam on `x`, its rate brought to 0 along a cosine; the tensors themselves are changed.

    A tensor in `paces` has that multiple of the rate.

    Of a sequence of HELD_OUT batches or more the last are held out and judge: a HELD_OUT-th of them, or fewer that have
    JUDGES outputs, of which a batch has `size`. The x of least loss there is the one returned, and the descent ends
    early where PATIENCE of CHECKS looks in a row find none better.

    Raises OptionError for fewer than 1 step, a rate that is not above 0, nothing to learn or a loss without gradient,
    CalibrationError where the data ends too early, or the loss is not finite in a step or on the batches held out.
    """
    if steps < 1:
        raise OptionError(f"steps, the number of batches to learn from, must be at least 1, not {steps}")
    if not 0 < rate < math.inf:
        raise OptionError(f"rate, the learning rate of Adam, must be above 0, not {rate}")
    if not x:
        raise OptionError("there is nothing to learn: the model has no parameter but whole numbers")
    losses = list[float]()
    judge = Judge(value, x, calibration.batches.ending(math.ceil(JUDGES / size), HELD_OUT))
    generator = torch.Generator().manual_seed(seed)
    parameters = [{"params": [tensor], "lr": rate * (paces or {}).get(name, 1.0)} for name, tensor in x.items()]
    optimizer = torch.optim.Adam(parameters, betas=betas)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step, batch in enumerate(calibration.batches.drawn(steps, generator, leave=len(judge.batches))):
        if step % max(steps // CHECKS, 1) == 0 and not judge.look(step):
            break
        with torch.enable_grad():
            loss = value(batch, torch.rand((), generator=generator, dtype=torch.float32, device="cpu").item())
            optimizer.zero_grad()
            _backward(loss)
        losses.append(float(loss.detach()))
        _require_finite(losses[-1], f"at step {step + 1} of learning")
        optimizer.step()
        torch.clear_autocast_cache()  # of a caller's autocast: what it has cast is x before this step
        schedule.step()
        if calibration.progress is not None:
            calibration.progress(stage, step + 1, steps)
    judge.look(len(losses))
    return Descent(judge.best, tuple(losses), tuple(judge.seen))


def _require_finite(loss: float, where: str) -> None:
    if not math.isfinite(loss):
        raise CalibrationError(f"the loss is {loss} {where}: try a lower rate, or look at the batches")


def _backward(loss: Tensor) -> None:
    try:
        loss.backward()  # type: ignore[no-untyped-call]
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise OptionError(
            f"learning follows the gradient of the loss, which cannot be computed here: {described(error)}; "
            "give a loss that can be differentiated, or align without learning"
        ) from error


@dataclass
class Judge:
    """Keeps the x of least mean loss on batches held out; without any, the last x."""

    value: Value
    x: Mapping[str, Tensor]
    batches: Sequence[Batch]
    seen: list[tuple[int, float]] = field(default_factory=list)
    best: Mapping[str, Tensor] = field(default_factory=dict)
    stale: int = 0

    def look(self, step: int) -> bool:
        """Judge x as it is; false where nothing has become better for long."""
        if not self.batches:
            self.best = self.x
            return True
        with torch.no_grad():
            loss = fmean(float(self.value(batch, 0.5)) for batch in self.batches)
        if not self.seen:  # later on a descent that diverged goes back to the best
            _require_finite(loss, "on the batches held out before learning")
        self.stale += 1
        if all(loss < known for _, known in self.seen):
            self.stale, self.best = 0, {name: tensor.detach().clone() for name, tensor in self.x.items()}
        self.seen.append((step, loss))
        return self.stale < PATIENCE
