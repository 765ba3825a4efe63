"""What stands in the way of a linear merge? Parts of two models are kept apart, and the rest is learned.

    nice python -m benchmarks.pairs.train gpt2 vit llama
    nice python -m benchmarks.pairs.limits [ARCHITECTURE ...]

A part that is kept apart computes λ f_A(x) + (1 - λ) f_B(x), f_B with B's weights as they are moved: nothing is lost
because its weights are averaged. With the stream moved by any matrix B's function is not kept: the barrier then tells
what the restriction to rotations costs. All begin at the alignment by activations, and are learned in the same steps.
Writes `benchmarks/results/limits.json` row by row; resumable.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils import _pytree as pytree

import permgraph as pg
from benchmarks.measured_with import measured_with
from benchmarks.pairs.kinds import SOME, STEPS, asked, chosen, with_weights
from benchmarks.pairs.measure import BATCH, RESULTS, inputs, judged, kept_rows
from benchmarks.pairs.models import RECIPES
from benchmarks.pairs.train import file_of, trained
from permgraph.comparing.batches import Batches
from permgraph.comparing.calibration import Calibration
from permgraph.learning.coordinates import Coordinates
from permgraph.learning.descent import descend
from permgraph.learning.element import BETAS, SHARES
from permgraph.learning.objective import divergence
from permgraph.learning.placing import Placed

PARTS = {"feed-forward": ("mlp",), "attention": ("attn", "self_attn", "attention")}
"""Part -> the names of its modules."""
STREAM = "any matrix"
ROWS = {"": (), "feed-forward": ("feed-forward",), "attention": ("attention",), "both": tuple(PARTS), STREAM: ()}
FREE_PACE = 0.1  # of the rate, for the matrix that is added to the rotation


class Apart(nn.Module):
    """share · f_A + (1 - share) · f_B."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.a, self.b, self.share = copy.deepcopy(module), copy.deepcopy(module), 0.5

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        a, b = (pytree.tree_flatten(one(*args, **kwargs)) for one in (self.a, self.b))
        mean = [torch.lerp(y, x, self.share) if isinstance(x, Tensor) else x for x, y in zip(a[0], b[0], strict=True)]
        return pytree.tree_unflatten(mean, a[1])


class Kept:
    """The merge of two models in which some parts are kept apart."""

    def __init__(self, model: nn.Module, parts: tuple[str, ...]) -> None:
        self.model = copy.deepcopy(model)
        ends = {end for part in parts for end in PARTS[part]}
        self.paths = [name for name, _ in self.model.named_modules() if name.rpartition(".")[2] in ends]
        self.modules = {path: Apart(self.model.get_submodule(path)) for path in self.paths}
        for path, module in self.modules.items():
            parent, _, own = path.rpartition(".")
            setattr(self.model.get_submodule(parent), own, module)

    def __call__(self, a: Mapping[str, Tensor], b: Mapping[str, Tensor], share: float, x: Tensor) -> Tensor:
        """The outputs with the weights of A and of B moved."""
        weights = {}
        for name, tensor in a.items():
            path = next((path for path in self.paths if name.startswith(f"{path}.")), None)
            if path is None:
                weights[name] = torch.lerp(b[name], tensor, share) if tensor.is_floating_point() else tensor
            else:
                own = name.removeprefix(path)
                weights |= {f"{path}.a{own}": tensor, f"{path}.b{own}": b[name]}
        for module in self.modules.values():
            module.share = share
        found: Tensor = functional_call(self.model, weights, (x,))
        return found


def learned(a: nn.Module, b: nn.Module, name: str, start: pg.Alignment, row: str) -> tuple[Kept, dict[str, Tensor]]:
    """The merge with parts apart, and B's weights moved as learned for it."""
    state_a, spec = dict(start.reference), start.spec
    coordinates = Coordinates(spec.groups, torch.device("cpu"), torch.float32)
    placed, kept = Placed(spec, start.state_dict, coordinates.groups), Kept(with_weights(a, start, None), ROWS[row])
    calibration = Calibration(start.models, Batches.of(chosen(name, None)))
    x, paces = dict(coordinates.tensors), coordinates.paces
    if row == STREAM:
        size = next(group.size for group in spec.groups if group.role == "residual")
        x[STREAM], paces = torch.zeros(size, size, requires_grad=True), paces | {STREAM: FREE_PACE}

    def moved() -> dict[str, Tensor]:
        element = coordinates.element()
        if row == STREAM:
            stream = next(group.name for group in spec.groups if group.role == "residual")
            element[stream] = replace(element[stream], matrix=element[stream].matrix + x[STREAM])
        return {key: placed(element, key) for key in state_a}

    def value(batch: Any, u: float) -> Tensor:
        (data,), _ = batch
        with torch.no_grad():
            targets = [model(data).flatten(0, -2) for model in (a, b)]
        share = SHARES[0] + (SHARES[1] - SHARES[0]) * u
        return divergence(kept(state_a, moved(), share, data).flatten(0, -2), *targets)

    options: dict[str, Any] = {"size": BATCH, "steps": STEPS, "rate": 2e-2, "seed": 0, "betas": BETAS, "paces": paces}
    found = descend(value, x, calibration, "learning", **options)
    with torch.no_grad():
        for key, tensor in x.items():
            tensor.copy_(found.x[key])
        return kept, moved()


def row_of(name: str, pair: tuple[int, int], row: str) -> dict[str, Any]:
    """The barrier of one row for one pair."""
    recipe, (a, b) = RECIPES[name], (trained(name, seed) for seed in pair)
    start = pg.align(a, b, chosen(name, SOME), kinds="all", method="correlation")
    kept, moved = learned(a, b, name, start, row)
    test = inputs(name)[1]
    state = dict(start.reference)

    class Merge(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return kept(state, moved, 0.5, x)

    ends = [judged(recipe, model, *test)[0] for model in (a, b)]
    loss, hits = judged(recipe, Merge(), *test)
    return {"architecture": name, "pair": list(pair), "apart": row, "height": loss - sum(ends) / 2, "middle": hits}


def main() -> None:
    options = asked(__doc__, ROWS)
    torch.set_num_threads(1)
    path = RESULTS / "limits.json"
    for pair in combinations(options.seeds, 2):
        for name in (name for name in options.names if all(file_of(name, seed).exists() for seed in pair)):
            for key in options.rows:
                known = {(row["architecture"], *row["pair"], row["apart"]) for row in kept_rows(path)}
                if (name, *pair, key) in known:
                    continue
                row = row_of(name, pair, key) | {"measured": measured_with()}
                print(name, pair, key or "all merged", round(row["height"], 3), flush=True)
                path.write_text(json.dumps({"steps": STEPS, "rows": [*kept_rows(path), row]}, indent=0) + "\n")


if __name__ == "__main__":
    main()
