"""How much does an order of units keep of a layer under 2:4 sparsity? A real encoder, and NVIDIA's permutation search.

    python -m benchmarks.units.sparsity --peers DIR

2:4 sparsity keeps the two largest of every four neighbours in a row. The feed-forward units of the speech encoder that
the demo ships are put in another order by `spec.reorder`: *spread*, two of the larger and two of the smaller columns to
each four. *Search*: NVIDIA's `Channel_Swap` on the first 24 units; it is in no package on PyPI: copy `channel_swap.py`
and `permutation_utilities.py` from `apex/contrib/sparsity/permutation_search_kernels` of its repository into
`DIR/apex_permutation_search`. Without its CUDA kernels it takes each pair in Python, hence 24 units. The share is that
of the absolute sum of the output weights; *gap* is that of the outputs, reordered and as stored. Writes
`benchmarks/results/sparsity.json`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import HubertModel

import permgraph as pg
from benchmarks.measured_with import measured_with

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "benchmarks" / "results" / "sparsity.json"
ENCODER = ROOT / "permgraph" / "demo" / "assets" / "speech"
SEARCH = "apex_permutation_search"
UNITS = 24


def kept(weight: Tensor) -> float:
    """The share of a weight's absolute sum that 2:4 sparsity keeps."""
    fours = weight.abs().unflatten(1, (-1, 4))
    return float(fours.topk(2, dim=-1).values.sum() / fours.sum())


def spread(weight: Tensor) -> Tensor:
    """Old places of columns in an order in which each four has two of the larger ones."""
    return weight.abs().sum(0).argsort().unflatten(0, (4, -1)).T.flatten()


def searched(weight: Tensor) -> tuple[Tensor, float]:
    """The order of columns that NVIDIA's search finds, and its seconds."""
    import_module(f"{SEARCH}.permutation_utilities").use_gpu(initial_override=False)
    start = time.process_time()
    *_, order = import_module(f"{SEARCH}.channel_swap").Channel_Swap(weight.double().numpy().copy())
    return torch.tensor(np.array(order)), time.process_time() - start


def measured(spec: pg.PermutationSpec, model: Any, name: str, x: Tensor) -> dict[str, Any]:
    """One layer of feed-forward units in each order."""
    state = model.state_dict()
    group = next(g for g in spec.groups if (name, 1) in g.axes)
    weight = state[name]
    some = weight[:, :UNITS]
    found, seconds = searched(some)
    first = torch.cat([found, torch.arange(UNITS, group.size)])
    by_order = {"spread": spread(weight), "search": first}
    ordered = {how: spec.reorder(state, group, order) for how, order in by_order.items()}
    expected = model(x).last_hidden_state
    gaps = [float((run(model, one, x) - expected).abs().max() / expected.abs().max()) for one in ordered.values()]
    return {
        "layer": name,
        "units": group.size,
        "stored": kept(weight),
        "spread": kept(ordered["spread"][name]),
        "first": {"stored": kept(some), "spread": kept(some[:, spread(some)])}
        | {"search": kept(ordered["search"][name][:, :UNITS]), "seconds": round(seconds, 1)},
        "gap": max(gaps),
    }


def run(model: Any, state: dict[str, Tensor], x: Tensor) -> Tensor:
    return torch.func.functional_call(model, state, x).last_hidden_state


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=Path, metavar="DIR", required=True, help="where the search lies")
    options = parser.parse_args()
    sys.path.append(str(options.peers))
    model, x = HubertModel.from_pretrained(ENCODER).eval(), torch.randn(1, 4000)
    spec = pg.derive(model, x)
    names = [name for name in model.state_dict() if name.endswith("feed_forward.output_dense.weight")]
    rows = [measured(spec, model, name, x) for name in names]
    RESULT.write_text(json.dumps({"units": UNITS, "measured": measured_with(), "rows": rows}, indent=1) + "\n")
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
