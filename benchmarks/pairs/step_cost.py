"""What a step of learning an alignment costs, in steps of training the model.

    python -m benchmarks.pairs.train vit gpt2 llama
    python -m benchmarks.pairs.step_cost

Both on the same batches, in processor seconds on one thread. Writes `benchmarks/results/step_cost.json`.
"""

from __future__ import annotations

import json
import time

import torch

from benchmarks.measured_with import measured_with
from benchmarks.pairs.kinds import NAMES, chosen
from benchmarks.pairs.measure import RESULTS
from benchmarks.pairs.models import RECIPES
from benchmarks.pairs.train import file_of, trained
from permgraph.comparing.batches import Batches
from permgraph.comparing.calibration import Calibration
from permgraph.comparing.models import Models
from permgraph.learning.element import learn

WARM, STEPS = 2, 12
COUNT = 768


def training(name: str) -> float:
    """Seconds of a step of AdamW."""
    recipe, model = RECIPES[name], trained(name, 0).train()
    optimizer, data = torch.optim.AdamW(model.parameters()), recipe.data()
    size = len(chosen(name, COUNT)[0])
    start = 0.0
    for step in range(WARM + STEPS):
        start = time.process_time() if step == WARM else start
        part = slice(step * size, (step + 1) * size)
        loss = recipe.loss(model(data.train_x[part]), data.train_y[part])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (time.process_time() - start) / STEPS


def learning(name: str) -> float:
    """Seconds of a step of learning: of STEPS more of them than WARM."""
    a, b = trained(name, 0), trained(name, 1)
    batches = chosen(name, COUNT)
    models, _ = Models.of((a, b)).folded(((batches[0],), {}))
    spec = models.derivation(((batches[0],), {}), "fixed", "all").spec
    calibration, taken = Calibration(models, Batches.of(batches)), []
    for steps in (WARM, WARM + STEPS):
        start = time.process_time()
        learn(calibration, spec, spec.identity(), steps=steps)
        taken.append(time.process_time() - start)
    return (taken[1] - taken[0]) / STEPS


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for name in NAMES:
        if file_of(name, 1).exists():
            rows.append({"architecture": name, "training": training(name), "learning": learning(name)})
            print(rows[-1], flush=True)
    (RESULTS / "step_cost.json").write_text(json.dumps({"measured": measured_with(), "rows": rows}, indent=0) + "\n")


if __name__ == "__main__":
    main()
