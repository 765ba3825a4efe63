"""What do all kinds cost, as multiples of permutations alone? Derivation, and matching without data; one thread.

HuBERT-base, ViT-B/16 and GPT-2 small with random weights, B's drawn anew: nothing to be found, the longest search.
Both are taken in turns in one process, so that a busy machine weighs on both alike; the least of REPEATS derivations
counts, and one search. Writes `benchmarks/results/kinds_cost.json`, rows by model, those of earlier runs kept.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from large_pairs import MODELS, drawn
from torch import nn

import permgraph as pg
from benchmarks.measured_with import measured_with
from permgraph.comparing.models import Models
from permgraph.matching.kinds.match import match_kinds
from permgraph.matching.match import Task
from permgraph.matching.weights.search import match_weights

RESULT = Path(__file__).parent / "results" / "kinds_cost.json"
REPEATS = 3


def gpt2() -> tuple[nn.Module, tuple[Any, ...], dict[str, Any], str]:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(use_cache=False)), (torch.zeros(1, 16, dtype=torch.long),), {}, "fixed"


COSTED = {name: MODELS[name] for name in ("HuBERT-base", "ViT-B")} | {"GPT-2 small": gpt2}


def taken(work: Callable[[], Any]) -> tuple[Any, float]:
    """What `work` returns, and its seconds of processor time, without the garbage of what ran before."""
    gc.collect()
    start = time.process_time()
    return work(), time.process_time() - start


def derivations(build: Callable[[], Any]) -> dict[str, float]:
    """Seconds to derive on meta, without and with all kinds, the least of REPEATS."""
    with torch.device("meta"):
        model, args, kwargs, outputs = build()
    model.eval()
    found: dict[str, list[float]] = {"permutation": [], "all": []}
    for _ in range(REPEATS):
        for kinds, seconds in found.items():
            seconds.append(taken(lambda kinds=kinds: pg.derive(model, args, kwargs, outputs=outputs, kinds=kinds))[1])
    return {kinds: min(seconds) for kinds, seconds in found.items()}


def matchings(build: Callable[[], Any]) -> dict[str, float]:
    """Seconds to match by weights, permutations alone and all kinds of the folded models."""
    (a, args, kwargs, outputs), (b, *_) = drawn(build, 0), drawn(build, 1)
    spec = pg.derive(a, args, kwargs, outputs=outputs)
    _, alone = taken(lambda: match_weights(spec, spec.groups, a.state_dict(), b.state_dict()))
    example = (args, kwargs)
    (folded, _), folding = taken(lambda: Models.of((a, b)).folded(example))
    every = folded.derivation(example, outputs, "all").spec
    _, kinds = taken(lambda: match_kinds(Task(folded, every, tuple(every.groups), example)))
    return {"permutation": alone, "all": kinds, "folding": folding}


def row(name: str) -> dict[str, Any]:
    """The seconds of one model."""
    derive, match = derivations(COSTED[name]), matchings(COSTED[name])
    found = {f"derive_{kinds}": seconds for kinds, seconds in derive.items()}
    found |= {f"match_{what}": seconds for what, seconds in match.items()}
    return {"model": name, "repeats": REPEATS, **found, "measured": measured_with()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(COSTED))
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = {one["model"]: one for one in json.loads(RESULT.read_text())["rows"]} if RESULT.exists() else {}
    for name in options.names:
        rows[name] = row(name)
        print(rows[name], flush=True)
        ordered = [rows[known] for known in COSTED if known in rows]
        RESULT.write_text(json.dumps({"torch": torch.__version__, "rows": ordered}, indent=1) + "\n")


if __name__ == "__main__":
    main()
