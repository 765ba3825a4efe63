"""What does more calibration data cost, and what do two processes save?

*Hours*: `permgraph align A B --data DIR` of two small HuBERTs, in a process of its own, on so many hours of the
recordings in `--audio`; where these are fewer, the same files again under other names. Its peak of resident memory is
VmHWM of `/proc/self/status` as it ends.
*Processes*: the moments of two HuBERT-base models with random weights on the same batches, gathered by one process and
by two in a gloo group; seconds of processor time and of the clock, of the slower process, with the load of the machine
as it began. Where others use the machine, the quotient of processor times says how much sooner two are done that have a
core each. Writes `benchmarks/results/calibration.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import cycle
from pathlib import Path
from typing import Any

import soundfile
import torch
import torch.distributed as dist

import permgraph as pg
from benchmarks.measured_with import measured_with
from benchmarks.streaming import run
from permgraph.comparing.batches import Batches
from permgraph.comparing.models import Models
from permgraph.comparing.points import find_points
from permgraph.matching.correlation import moments_of

RESULT = Path(__file__).parent / "results" / "calibration.json"
RATE, HOUR = 16_000, 3600
SUFFIXES = (".wav", ".flac", ".ogg")
SMALL = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
    "conv_dim": (8, 8), "conv_kernel": (10, 8), "conv_stride": (80, 4), "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip
BATCHES, WINDOWS, SECONDS = 32, 2, 2


def model(seed: int, **fields: Any) -> Any:
    """A HuBERT with random weights."""
    import transformers as hf

    torch.manual_seed(seed)
    return hf.HubertModel(hf.HubertConfig(**fields)).eval()


def write_model(folder: Path, seed: int) -> None:
    """A small HuBERT with its feature extractor."""
    import transformers as hf

    model(seed, **SMALL).save_pretrained(folder)
    hf.Wav2Vec2FeatureExtractor(sampling_rate=RATE).save_pretrained(folder)


def recordings(folder: Path) -> list[tuple[Path, float]]:
    """All that a folder holds, with their seconds."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES)
    return [(path.resolve(), soundfile.info(path).duration) for path in paths]


def heard(hours: list[float], audio: Path) -> list[dict[str, float]]:
    """A row for each number of hours, fewest first."""
    rows: list[dict[str, float]] = []
    known = recordings(audio)
    distinct = sum(seconds for _, seconds in known) / HOUR
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        (root / "sound").mkdir()
        for seed, side in enumerate("ab"):
            write_model(root / side, seed)
        done, files = 0.0, enumerate(cycle(known))
        for length in sorted(hours):
            while done < length * HOUR:
                number, (path, seconds) = next(files)
                (root / "sound" / f"{number:06}{path.suffix}").symlink_to(path)
                done += seconds
            words = ["align", str(root / "a"), str(root / "b"), "--data", str(root / "sound"), "--force"]
            row = run([*words, "--out", str(root / "out")], root / "peak")
            rows.append({"hours": done / HOUR, "distinct_hours": min(distinct, done / HOUR), **row})
            print(rows[-1], flush=True)
    return rows


def gather() -> tuple[float, float]:
    """Seconds of processor time and of the clock in which this process gathers its share of the moments."""
    batches = [torch.randn(WINDOWS, SECONDS * RATE, generator=torch.Generator().manual_seed(k)) for k in range(BATCHES)]
    pair = Models.of((model(0), model(1)))
    derivation = pair.derivation(((batches[0],), {}), "free")
    points = find_points(derivation, [group.name for group in derivation.spec.groups])
    dist.barrier()
    start = time.process_time(), time.perf_counter()
    moments_of(pair, points, Batches(batches))
    return time.process_time() - start[0], time.perf_counter() - start[1]


def of_processes(count: int) -> dict[str, float]:
    """The seconds of the slowest of so many processes."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as place:
        words = [sys.executable, __file__, "--rank"]
        starts = [
            subprocess.Popen([*words, f"{rank} {count} {place}/group"], stdout=subprocess.PIPE) for rank in range(count)
        ]
        told = [json.loads(process.communicate()[0]) for process in starts]
    cpu, clock = (max(each) for each in zip(*told, strict=True))
    row = {"processes": count, "cpu_seconds": cpu, "seconds": clock, "load": load}
    print(row, flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", nargs="*", type=float, default=[0.5, 2, 8])
    parser.add_argument("--audio", type=Path, default=Path(pg.__file__).parent / "demo/assets/clips/calibration")
    parser.add_argument("--processes", nargs="*", type=int, default=[1, 2])
    parser.add_argument("--rank", help="of a process that this program starts")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.rank:
        rank, count, place = options.rank.split(maxsplit=2)
        dist.init_process_group("gloo", init_method=f"file://{place}", rank=int(rank), world_size=int(count))
        print(json.dumps(gather()))
        return
    data = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    data |= {
        "measured": measured_with(),
        "torch": torch.__version__,
        "threads": 1,
        "batches": BATCHES,
        "windows": WINDOWS,
        "seconds": SECONDS,
    }
    if options.processes:
        data["processes"] = [of_processes(count) for count in options.processes]
        RESULT.write_text(json.dumps(data, indent=1) + "\n")
    if options.hours:
        data["hours"] = heard(options.hours, options.audio)
    RESULT.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
