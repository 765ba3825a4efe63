"""Interpolation curves between two models, and the loss barrier on them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from permgraph.arguments import typed
from permgraph.errors import OptionError
from permgraph.matching.alignment import Alignment
from permgraph.merging.merge import Merges
from permgraph.merging.owners import Owners
from permgraph.requirements import unusable
from permgraph.tracing.loaded import Loaded, module_of
from permgraph.tracing.twin import drop_kept
from permgraph.wording import shortened

Judge = Callable[[nn.Module], float | tuple[float, float]]
"""A model -> its loss, or its loss and its accuracy."""

POINTS = 11


@dataclass(frozen=True)
class Barrier:
    """The loss along a path from B (weight 0) to A (weight 1).

    Attributes:
        weights: A's share at each point, rising from 0 to 1.
        losses: the loss at each point; the ends are the two models themselves.
        accuracies: the same for the accuracy, where it was given; None otherwise.

    """

    weights: tuple[float, ...]
    losses: tuple[float, ...]
    accuracies: tuple[float, ...] | None = None

    @property
    def excess(self) -> tuple[float, ...]:
        """L(w) - (w L(1) + (1 - w) L(0)) at each point: 0 at the ends."""
        first, last = self.losses[0], self.losses[-1]
        return tuple(loss - (w * last + (1 - w) * first) for w, loss in zip(self.weights, self.losses, strict=True))

    @property
    def height(self) -> float:
        """max over w of L(w) - (w L(1) + (1 - w) L(0)); never below 0, which the ends have.

        Frankle et al. (arXiv 1912.05671) with the linear term of Entezari et al. (arXiv 2110.06296).
        """
        return max(self.excess)

    @property
    def highest(self) -> float:
        """The weight at which the barrier is reached."""
        return self.weights[self.excess.index(self.height)]

    @typed
    def plot(self, path: Path | str | None = None, title: str = "") -> Any:
        """The curve as a picture: see `plot_barriers`."""
        return plot_barriers({"": self}, path, title=title)


@typed
def barrier(
    model_a: nn.Module | Loaded,
    model_b: nn.Module | Loaded,
    judge: Judge,
    *,
    alignment: Alignment | None = None,
    weights: int | Sequence[float] = POINTS,
    method: str = "linear",
    data: Iterable[Any] | None = None,
    base: nn.Module | Loaded | Mapping[str, Tensor] | None = None,
    owners: Owners | None = None,
    **options: Any,
) -> Barrier:
    """The loss of every merge between B' and A, for any loss.

    Args:
        model_a: the reference; neither model is changed.
        model_b: the other one, moved by `alignment`, or unmoved.
        judge: `judge(model)` is the loss of a model, lower is better, or (loss, accuracy).
        alignment: how B is moved.
        weights: how many points, evenly spread with both ends, or A's shares themselves; 0 and 1 are added.
        method: how the points between are merged, as in `merge`.
        data: calibration batches, for the methods that need them.
        base: as in `merge`.
        owners: who has what of models that were fitted to each other; by the alignment's borders by default.
        options: the method's own, by name.

    Returns:
        A's shares with the losses, and the accuracies where `judge` gives them; `height` is the barrier.

    Raises:
        OptionError: fewer than 3 points, a weight outside [0, 1], or a loss that is not finite at an end.
        PermgraphError: what `merge` raises.

    """
    shares = _shares(weights)
    merges = Merges(model_a, model_b, alignment, data, base=base, owners=owners)
    ends = module_of(model_b), module_of(model_a)
    found: list[tuple[float, ...]] = []
    for share in shares:
        if share in (0.0, 1.0):
            model = ends[int(share)]
        else:
            model = copy.deepcopy(ends[1])
            model.load_state_dict(merges.at(share, method, **options))
            drop_kept(model)
        found.append(_numbers(judge(model)))
    for name, end in (("B", found[0]), ("A", found[-1])):
        if not isfinite(end[0]):
            raise OptionError(
                f"the loss of model {name} is {end[0]}: a barrier needs two finite losses; "
                "judge both on other data, or repair that model"
            )
    accuracies = tuple(one[1] for one in found) if len(found[0]) > 1 else None
    return Barrier(shares, tuple(one[0] for one in found), accuracies)


def _numbers(judged: Any) -> tuple[float, ...]:
    try:
        return tuple(map(float, judged)) if isinstance(judged, tuple | list) else (float(judged),)
    except (TypeError, ValueError, RuntimeError) as error:  # the last for a tensor of several numbers
        raise OptionError(
            f"the function that judges a model returned a {type(judged).__name__} that is no number ({error}): return "
            "its loss, or (loss, accuracy)"
        ) from error


def _shares(weights: int | Sequence[float]) -> tuple[float, ...]:
    given = [k / (weights - 1) for k in range(weights)] if isinstance(weights, int) and weights > 2 else weights
    try:
        shares = [] if isinstance(given, int) else sorted({0.0, 1.0, *map(float, given)})
    except (TypeError, ValueError):
        shares = []
    if len(shares) < 3 or not (shares[0] == 0 and shares[-1] == 1):
        raise OptionError(
            "weights are a number of points, 3 or more, or shares between 0 and 1 in addition to these two, not "
            f"{shortened(repr(weights), 80)}"
        )
    return tuple(shares)


def plot_barriers(barriers: Mapping[str, Barrier], path: Path | str | None = None, *, title: str = "") -> Any:
    """Curves of loss over A's share, and of accuracy where known, as a matplotlib figure.

    Written to `path` where one is given, in the format of its suffix. Raises OptionError where matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise OptionError(f"drawing needs {unusable('matplotlib', error, install='permgraph[plot]')}") from None
    sides = {"loss": {name: b.losses for name, b in barriers.items()}}
    known = {name: b.accuracies for name, b in barriers.items() if b.accuracies is not None}
    if known:
        sides["accuracy"] = known
    figure = Figure(figsize=(5 * len(sides), 4), layout="constrained")
    for axes, (what, curves) in zip(figure.subplots(1, len(sides), squeeze=False)[0], sides.items(), strict=True):
        for name, values in curves.items():
            axes.plot(barriers[name].weights, values, marker=".", label=name or None)
        axes.set_xlabel("share of A")
        axes.set_ylabel(what)
    if any(barriers):
        axes.legend(fontsize="small")
    if title:
        figure.suptitle(title)
    if path is not None:
        figure.savefig(path)
    return figure
