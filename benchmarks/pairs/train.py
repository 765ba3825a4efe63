"""Trains the models of each architecture from different seeds into `data/pairs/`, one thread; resumable.

nice python -m benchmarks.pairs.train [ARCHITECTURE ...] [--seeds SEED ...]
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import torch
from torch import nn

from benchmarks.pairs.data import DATA
from benchmarks.pairs.models import RECIPES, SEEDS, Recipe

FOLDER = DATA / "pairs"


def train(recipe: Recipe, seed: int) -> nn.Module:
    """AdamW, the rate warmed up over a twentieth and brought to zero along a cosine; order and start by `seed`."""
    torch.manual_seed(seed)
    model, data = recipe.build().train(), recipe.data()
    steps = int(recipe.epochs * len(data.train_x) / recipe.batch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.rate, weight_decay=1e-2)
    order = torch.empty(0, dtype=torch.long)
    for step in range(steps):
        if len(order) < recipe.batch:
            order = torch.randperm(len(data.train_x))
        chosen, order = order[: recipe.batch], order[recipe.batch :]
        rate = min(20 * (step + 1) / steps, 1.0) * 0.5 * (1 + math.cos(math.pi * step / steps))
        optimizer.param_groups[0]["lr"] = recipe.rate * rate
        loss = recipe.loss(model(data.train_x[chosen]), data.train_y[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            print(f"  step {step} of {steps}: loss {loss.item():.3f}", flush=True)
    return model.eval()


def file_of(name: str, seed: int) -> Path:
    """Where the model of this architecture and seed is, or will be."""
    return FOLDER / f"{name}-{seed}.pt"


def trained(name: str, seed: int) -> nn.Module:
    """The model of this architecture and seed. FileNotFoundError before it is trained."""
    model = RECIPES[name].build()
    model.load_state_dict(torch.load(file_of(name, seed), weights_only=True))
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(RECIPES))
    parser.add_argument("--seeds", nargs="*", type=int, default=list(SEEDS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for seed in options.seeds:
        for name in options.names:
            path = file_of(name, seed)
            if not path.exists():
                start = time.process_time()
                model = train(RECIPES[name], seed)
                torch.save(model.state_dict(), path.with_suffix(".partial"))
                path.with_suffix(".partial").rename(path)
                data = RECIPES[name].data()
                with torch.no_grad():
                    hits = RECIPES[name].hits(model(data.test_x[:2000]), data.test_y[:2000])
                print(f"{name} {seed}: {hits:.4f}, {time.process_time() - start:.0f} CPU s", flush=True)


if __name__ == "__main__":
    main()
