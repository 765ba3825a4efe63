"""Distils both parents into a merge of them, on unlabelled data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from permgraph.arguments import typed
from permgraph.checkpoints.reading import require_finite
from permgraph.comparing.batches import Batch, Batches, Progress
from permgraph.comparing.calibration import Calibration
from permgraph.comparing.models import Models, require_pair
from permgraph.errors import CalibrationError
from permgraph.learning.between import Between
from permgraph.learning.descent import descend
from permgraph.learning.objective import Loss
from permgraph.progress import with_bar
from permgraph.symmetry.derivation.folding import came_apart, separated
from permgraph.tracing.loaded import Loaded
from permgraph.wording import few

RATE = 1e-3


@typed
@with_bar
def heal(
    state_dict: Mapping[str, Tensor],
    model_a: nn.Module | Loaded,
    model_b: nn.Module | Loaded,
    data: Iterable[Any],
    *,
    steps: int,
    seed: int = 0,
    rate: float = RATE,
    loss: Loss = None,
    progress: Progress | None = None,
) -> dict[str, Tensor]:
    """argmin over θ of loss(f(θ), ½ f(A) + ½ f(B)), begun at `state_dict`: a new state dict.

    All parameters are learned by Adam, its rate brought to 0 along a cosine; buffers stay as they are. The loss is the
    default one of `align` with method "learned": logits come near the mean of the parents' distributions, features near
    the mean of their features. Learned in float32 or wider, returned in the dtypes of `state_dict`. Weights that the
    parents tie stay tied if they are equal in `state_dict`; others, as of a head that an alignment untied, are learned
    apart. Of a sequence of 10 batches or more the last is held out, and decides which θ is returned.

    Args:
        state_dict: the merge to begin with.
        model_a: a parent, in eval mode, or what `load` returned of it; neither is changed.
        model_b: the other parent, unmoved or moved: its outputs must mean the same.
        data: unlabelled batches, as for `align`.
        steps: how many batches are learned from.
        seed: of their order.
        rate: Adam's.
        loss: "logits" or "features" where the outputs are not what they look like; or loss(outputs, batch).
        progress: called as progress(stage, done, total). By default a bar in a notebook, and nothing elsewhere.

    Returns:
        A new state dict with the names, shapes and dtypes of `state_dict`.

    Raises:
        SpecMismatchError: the models and the state dict are not of one architecture.
        CheckpointError: a weight is not finite.
        CalibrationError: the data is empty or ends too early, or the loss, or what is learned, is not finite.
        OptionError: `steps`, `rate` or `loss` is not what it can be, or there is nothing to learn.

    """
    calibration = Calibration(parents_of(state_dict, model_a, model_b), Batches.of(data), progress)
    done, names = healed(calibration, state_dict, steps, seed, rate, loss), calibration.program.names
    return {
        name: done[names[name]] if names[name] in done else tensor.detach().clone()
        for name, tensor in state_dict.items()
    }


@torch.inference_mode(False)
def healed(
    calibration: Calibration,
    state: Mapping[str, Tensor],
    steps: int,
    seed: int = 0,
    rate: float = RATE,
    loss: Loss = None,
    share: float = 0.5,
) -> dict[str, Tensor]:
    """The parameters that `heal` learns, for parents as a calibration has them, of whose mean A counts `share`."""
    program = calibration.program
    x = {
        name: calibration.fitted(state, name).detach().clone().requires_grad_()
        for name in dict.fromkeys(program.names[key] for key in program.parameters)
        if state[name].is_floating_point() or state[name].is_complex()
    }
    between = Between(calibration, calibration.states, loss, share)

    def value(batch: Batch, u: float) -> Tensor:
        return between(lambda name: x[name] if name in x else calibration.fitted(state, name), batch)

    found = descend(value, x, calibration, "healing", size=between.size, steps=steps, rate=rate, seed=seed).x
    done = {name: tensor.detach().to(state[name]) for name, tensor in found.items()}
    lost = [name for name, tensor in done.items() if not torch.equal(tensor.isfinite(), state[name].isfinite())]
    if lost:
        raise CalibrationError(f"learning left numbers that are not finite in {few(lost)}: try a lower rate")
    return done


def parents_of(state_dict: Mapping[str, Tensor], model_a: nn.Module | Loaded, model_b: nn.Module | Loaded) -> Models:
    """Both models, untied where a merge of them is; raises the errors of `heal`."""
    models = Models.of((model_a, model_b))
    require_pair(models.states[0], state_dict)
    require_finite(state_dict, "the merge")
    untied = came_apart(models.modules[0], state_dict)
    return Models.of([separated(module, untied) for module in models.modules]) if untied else models
