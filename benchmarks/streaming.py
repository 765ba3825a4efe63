"""What do models cost that do not fit into memory? Pairs merged under `--max-memory`, beside a plain copy.

Llamas, or mixtures of experts in Qwen3's form, whose files have a tensor for each expert. A has random weights in
bfloat16, in shards of 1 GB; B is A under a random element of its group, with noise of a tenth of each tensor's
deviation. Both are made tensor by tensor. Every size is one `permgraph merge A B --max-memory` in a process of its own;
its peak of resident memory is VmHWM of `/proc/self/status` as it ends, which counts the pages of files that are mapped
too. *Copy*: the files of A and B copied and put on the disk, in the same run. *Recovered*: the share of units that are
where they were before B was moved, in permutations; *reached*: <A, B moved> / |A| |B| over all that the groups move,
which noise alone would leave at 0.995. The last rows are not measured: their time is what the measured rows of
permutations cost for a byte and for a product, by least squares, and their memory is the plan's. Writes
`benchmarks/results/streaming.json`, rows by name, earlier ones kept, and `docs/pictures/streaming.svg`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

import permgraph as pg
from benchmarks.measured_with import measured_with
from benchmarks.scale_picture import draw
from permgraph.checkpoints.lazy_state import LazyState
from permgraph.checkpoints.sharding import Storage, write_weights
from permgraph.jobs.plan import planned
from permgraph.matching.weights.sites import sites
from permgraph.models.saved_form import saved_form
from permgraph.models.transformers_models import empty_model

RESULT = Path(__file__).parent / "results" / "streaming.json"
KEYS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
    "num_experts",
)
SIZES = {
    "0.1 B": (768, 2048, 10, 12, 4, 32000),
    "0.3 B": (1280, 3456, 14, 20, 4, 32000),
    "1 B": (2048, 5632, 24, 16, 4, 32000),
    "3 B": (3072, 8192, 28, 24, 8, 32000),
}
MIXTURES = {"0.7 B, 64 experts": (1024, 512, 6, 16, 4, 32000, 64)}
PLANNED = {"8 B": (4096, 14336, 32, 32, 8, 128256), "70 B": (8192, 28672, 80, 64, 8, 128256)}
NOISE, DEVIATION, SHARD = 0.1, 0.02, 10**9
MEASURED = """
import sys
from permgraph.cli import main
try:
    main()
finally:
    with open("/proc/self/status") as status, open(sys.argv.pop(), "w") as peak:
        peak.write(next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""


def architecture(shape: tuple[int, ...]) -> tuple[Any, pg.PermutationSpec]:
    """A model on meta, and its group."""
    import transformers as hf

    fields = dict(zip(KEYS, shape, strict=False)) | {"use_cache": False, "tie_word_embeddings": False}
    kind = hf.LlamaForCausalLM
    if "num_experts" in fields:
        kind = hf.Qwen3MoeForCausalLM
        fields |= {"moe_intermediate_size": fields["intermediate_size"], "num_experts_per_tok": 4}
        fields["head_dim"] = fields["hidden_size"] // fields["num_attention_heads"]
    config = kind.config_class(**fields)
    config.architectures = [kind.__name__]
    model = empty_model(kind, config)
    return model, pg.derive(model, (), {"input_ids": torch.zeros(1, 8, dtype=torch.long, device="meta")})


def drawn(name: str, tensor: Tensor, salt: str) -> Tensor:
    """Normal numbers of this shape that the name decides, at the deviation of a weight."""
    generator = torch.Generator().manual_seed(zlib.crc32(f"{salt} {name}".encode()))
    return torch.randn(tensor.shape, generator=generator).mul_(DEVIATION)


def write_pair(root: Path, shape: tuple[int, ...]) -> pg.PermutationSpec:
    """The folders a, b and the element that was planted; returns the group."""
    model, spec = architecture(shape)
    like, element = model.state_dict(), spec.sample(1)

    def a(name: str) -> Tensor:
        return drawn(name, like[name], "weight").add_(1.0 if like[name].dim() == 1 else 0.0).bfloat16()

    def b(name: str) -> Tensor:
        moved = spec.apply_one(element.tables, name, a(name)).float()
        return moved.add_(drawn(name, like[name], "noise"), alpha=NOISE).bfloat16()

    storage = Storage(default=torch.bfloat16, max_shard_bytes=SHARD)
    for side, make in (("a", a), ("b", b)):
        (root / side).mkdir()
        state = LazyState(like, make)
        write_weights(root / side, state if (form := saved_form(model)) is None else form.of(state), storage)
        fields = model.config.to_dict() | {"dtype": "bfloat16"}
        (root / side / "config.json").write_text(json.dumps(fields))
    (root / "element.json").write_text(json.dumps(element.to_data()))
    return spec


def run(words: list[str], peak: Path) -> dict[str, float]:
    """Seconds of the clock and of the processor, and the peak of resident memory, of a command."""
    start = time.perf_counter()
    script = MEASURED.replace("sys.argv.pop()", repr(str(peak)))
    process = subprocess.Popen([sys.executable, "-c", script, *words], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{words} failed")
    taken = time.perf_counter() - start
    cpu = used.ru_utime + used.ru_stime
    return {"seconds": taken, "cpu_seconds": cpu, "peak_mb": round(int(peak.read_text()) / 1024)}


def copied(root: Path) -> float:
    """Seconds to copy the files of both models and put them on the disk."""
    start = time.perf_counter()
    for side in "ab":
        shutil.copytree(root / side, root / f"copy of {side}")
        for path in (root / f"copy of {side}").iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    taken = time.perf_counter() - start
    for side in "ab":
        shutil.rmtree(root / f"copy of {side}")
    return taken


def outcome(root: Path, spec: pg.PermutationSpec) -> dict[str, float]:
    """The cosine of A and B moved over all that the groups move; in permutations, the share of units brought back."""
    record = json.loads((root / "out" / "permgraph.json").read_text())
    reached, bound = (sum(gain[key] for gain in record["gains"].values()) for key in ("solution", "bound"))
    found = {"reached": reached / bound}
    return found if record["kinds"] != "permutation" else found | {"recovered": recovered(root, spec, record)}


def recovered(root: Path, spec: pg.PermutationSpec, record: dict[str, Any]) -> float:
    """The share of units that the merge brought back."""
    found = pg.Permutations.from_data(record["permutations"])
    planted = pg.Permutations.from_data(json.loads((root / "element.json").read_text()))
    left = spec.compose(found, planted)
    right = {name: table == np.arange(table.shape[-1]) for name, table in left.items()}
    return sum(int(one.sum()) for one in right.values()) / sum(one.size for one in right.values())


def work(model: Any, spec: pg.PermutationSpec) -> dict[str, Any]:
    """What a size asks for: numbers, bytes, and the operations of one exact sweep over all families."""
    numbers = sum(tensor.numel() for tensor in model.state_dict().values())
    sweep = sum(
        2 * prod(site.sizes(action)) * site.cell.size for site in sites(spec, spec.groups) for action in site.actions
    )
    largest = max(group.size * group.count for group in spec.groups)
    return {"parameters": numbers, "bytes": 2 * numbers, "sweep_flop": sweep, "largest": largest}


def measure(size: str, memory: str, kinds: str, folder: Path | None) -> dict[str, Any]:
    """One row."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        root = Path(place)
        spec = write_pair(root, (SIZES | MIXTURES)[size])
        model, _ = architecture((SIZES | MIXTURES)[size])
        row = {"name": named(size, kinds), "kinds": kinds, "memory": memory, **work(model, spec)}
        row |= {"copy_seconds": copied(root)}
        words = ["merge", str(root / "a"), str(root / "b"), "--kinds", kinds, "--max-memory", memory]
        row |= run([*words, "--out", str(root / "out")], root / "peak")
        return (
            row
            | outcome(root, spec)
            | {
                "threads": torch.get_num_threads(),
                "torch": torch.__version__,
                "measured": measured_with(),
            }
        )


def named(size: str, kinds: str) -> str:
    """What a row is called."""
    return size if kinds == "permutation" else f"{size}, {kinds} kinds"


def extrapolated(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The planned sizes at the measured rates: seconds = start + bytes / rate + operations / rate, none negative.

    None where fewer rows were measured than there are rates.
    """
    if len(rows) < 3:
        return []
    features = np.array([[1.0, row["bytes"] / 1e9, row["sweep_flop"] / 1e12] for row in rows])
    seconds = np.array([row["cpu_seconds"] for row in rows])
    found, _ = nnls(features / seconds[:, None], np.ones(len(rows)))
    result = []
    for name, shape in PLANNED.items():
        model, spec = architecture(shape)
        row = {"name": name, **work(model, spec)}
        plan = planned(spec, (model.state_dict(), model.state_dict()), 10**15)
        row["cpu_seconds"] = float(found @ [1.0, row["bytes"] / 1e9, row["sweep_flop"] / 1e12])
        result.append(row | {"peak_mb": round(plan.memory / 2**20), "rates": [float(x) for x in found]})
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", nargs="*", default=[*SIZES, *MIXTURES], help="sizes to measure; all by default")
    parser.add_argument("--kinds", default="permutation", choices=("permutation", "all"))
    parser.add_argument("--memory", default="6GB")
    parser.add_argument("--folder", type=Path, help="where the pairs are made, with room for four times A")
    options = parser.parse_args()
    known = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    rows = {row["name"]: row for part in ("rows", "mixtures") for row in known.get(part, ())}
    for size in options.sizes:
        row = measure(size, options.memory, options.kinds, options.folder)
        rows[row["name"]] = row
        print(row, flush=True)
        kept, mixtures = (
            [rows[name] for kinds in ("permutation", "all") for size in sizes if (name := named(size, kinds)) in rows]
            for sizes in (SIZES, MIXTURES)
        )
        data = {
            "rows": kept,
            "mixtures": mixtures,
            "extrapolated": extrapolated([row for row in kept if row["kinds"] == "permutation"]),
        }
        RESULT.write_text(json.dumps(data, indent=1) + "\n")
    draw()


if __name__ == "__main__":
    main()
