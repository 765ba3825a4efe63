"""Do units go without a trace? `spec.remove` beside Torch-Pruning, on the same units of the same models.

    pip install --no-deps --target DIR torch-pruning==1.6.1
    python -m benchmarks.units.removal --peers DIR

A unit is named as rows of a layer. Both remove it with all that goes with it: Torch-Pruning by its dependency graph
(`get_pruning_group(...).prune()`), permgraph by the group on that axis. *Right*: what is left computes what the whole
model computes with the units muted by hand; *wrong*: it runs, and does not; *refused*: the tool says that it cannot;
*does not run*: what it leaves. *Same slices*: the tensors that are left are equal. Writes
`benchmarks/results/removal.json`.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import permgraph as pg
from benchmarks.measured_with import measured_with
from benchmarks.units.models import ROWS, Row

RESULT = Path(__file__).parents[1] / "results" / "removal.json"
CLOSE = 1e-9


def whole(row: Row) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The model with its units muted, in float64 with generic weights, and inputs."""
    torch.manual_seed(0)
    model = row.build(row.size).double().eval()
    with torch.no_grad():
        for value in (*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())):
            value.add_(0.1 * torch.rand_like(value))
    row.mute(model)
    return model, (torch.randn(*row.inputs).double(),)


def by_permgraph(row: Row) -> tuple[dict[str, Tensor], Tensor]:
    """What is left, and what it computes: the model is built at the size that its tensors have."""
    model, inputs = whole(row)
    spec = pg.derive(model, inputs)
    weight, size = f"{row.layer}.weight", row.size * row.width
    groups = [spec.units(g) for g in spec.groups if (weight, 0) in g.axes]
    units = next(found for found in groups if len(_rows(found[0], weight, size)) == row.width)
    chosen = [unit for unit in units if _rows(unit, weight, size) <= set(row.rows)]
    left = spec.remove(model.state_dict(), chosen[0].group, chosen)
    smaller = row.build(left[weight].shape[0] // row.width).double().eval()
    smaller.load_state_dict(left)
    return left, smaller(*inputs)


def _rows(unit: Any, weight: str, count: int) -> set[int]:
    """The rows of a weight that belong to a unit."""
    return {k for name, index in unit if name == weight for k in range(*index[0].indices(count))}


def by_torch_pruning(row: Row) -> tuple[dict[str, Tensor], Tensor]:
    """The same by its dependency graph."""
    import torch_pruning as tp

    model, inputs = whole(row)
    model = copy.deepcopy(model)
    graph = tp.DependencyGraph().build_dependency(model, example_inputs=inputs)
    layer = model.get_submodule(row.layer)
    prune = tp.prune_conv_out_channels if isinstance(layer, nn.Conv2d) else tp.prune_linear_out_channels
    group = graph.get_pruning_group(layer, prune, idxs=row.rows)
    if not graph.check_pruning_group(group):
        raise ValueError("the group is refused by check_pruning_group")
    group.prune()
    return model.state_dict(), model(*inputs)


def judge(row: Row, remove: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The outcome of one tool."""
    model, inputs = whole(row)
    expected = model(*inputs)
    try:
        left, found = remove(row)
    except Exception as error:
        says_so = isinstance(error, pg.PermgraphError | ValueError)
        return {
            "outcome": "refused" if says_so else "does not run",
            "why": f"{type(error).__name__}: {str(error).splitlines()[0][:120]}",
        }, {}
    same = found.shape == expected.shape
    gap = float(((found - expected).abs().max() / expected.abs().max()).detach()) if same else float("inf")
    return {"outcome": "right" if gap < CLOSE else "wrong", "error": gap}, left


def measured(row: Row) -> dict[str, Any]:
    """Both tools on one row."""
    (ours, left), (theirs, other) = (judge(row, remove) for remove in (by_permgraph, by_torch_pruning))
    same = left.keys() == other.keys() and all(torch.equal(left[name], other[name]) for name in left)
    return {"name": row.name, "permgraph": ours, "torch_pruning": theirs, "same": bool(left) and same}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=Path, metavar="DIR", required=True, help="where torch-pruning is installed")
    options = parser.parse_args()
    sys.path.append(str(options.peers))
    version = next(d.version for d in distributions(path=[str(options.peers)]) if d.metadata["Name"] == "torch-pruning")
    rows = [measured(row) for row in ROWS]
    RESULT.write_text(
        json.dumps({"torch_pruning": version, "measured": measured_with(), "rows": rows}, indent=1) + "\n"
    )
    for row in rows:
        print(row["name"], row["permgraph"], row["torch_pruning"], row["same"], flush=True)


if __name__ == "__main__":
    main()
