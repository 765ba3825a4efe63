"""A merged model is trained for a while to do what its parents do, on unlabelled data."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from permgraph.comparing.calibration import Calibration
from permgraph.learning.heal import healed
from permgraph.merging.registry import correction
from permgraph.merging.shares import Shares

STEPS = 100


@correction("heal", reference="arXiv 1503.02531")
def heal(calibration: Calibration, merged: Mapping[str, Tensor], shares: Shares) -> dict[str, Tensor]:
    """argmin over θ of loss(f(θ), share · f(A) + (1 - share) · f(B)), in STEPS steps from the merge: `pg.heal`.

    The share is that of the whole; shares of groups say where it begins.
    """
    calibration.batches.keep()
    return healed(calibration, merged, STEPS, share=shares.default)
