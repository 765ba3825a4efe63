"""Does the experiment's code path carry HuBERT base? Random weights, end to end, with time and memory.

    python -m benchmarks.speech_music.full_size

Writes two folders of HuBERT base's and MERT's format with random weights, loads them as a user's would be, aligns them
by the paper's groups, merges and probes A, B and the merge on one set of clips. The accuracies mean nothing; the CPU
seconds and the peak memory of every stage go to `benchmarks/results/speech_music_full_size.json`.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import HubertConfig, HubertModel

import permgraph as pg
from benchmarks.measured_with import measured_with
from benchmarks.speech_music.export import write_folder
from benchmarks.speech_music.fetch import DATA
from benchmarks.speech_music.pair import Calibration, Encoders
from benchmarks.speech_music.probing import probe, tasks
from benchmarks.speech_music.rows import PROPOSED

RESULT = Path(__file__).resolve().parents[1] / "results" / "speech_music_full_size.json"


class Stages:
    """CPU seconds and peak resident memory (MB) after each stage, printed as they end."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float | str]] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = time.process_time()
        yield
        peak = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        self.rows.append({"stage": name, "cpu_seconds": round(time.process_time() - began, 1), "peak_mb": peak})
        print(self.rows[-1], flush=True)


def random_folder(domain: str, seed: int) -> str:
    """A checkpoint folder of base size with random weights, in HuBERT's (speech) or MERT's (music) format."""
    folder = DATA / "full-size" / domain
    if not (folder / "model.safetensors").exists():
        torch.manual_seed(seed)
        write_folder(domain, HubertModel(HubertConfig()), folder)
    return str(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="*", default=["speaker"])
    parser.add_argument("--calibration-seconds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    stages = Stages()
    folders = [random_folder(domain, seed) for seed, domain in enumerate(("speech", "music"))]
    with stages.stage("load both folders"):
        pair = Encoders.load(*folders, calibration=Calibration(seconds=options.calibration_seconds))
    with stages.stage("trace and derive"):
        groups = len(pair.spec.groups)
    with stages.stage(f"correlations on {options.calibration_seconds} s"):
        pair.terms(pair.calibration)
    with stages.stage("assign and prove"):
        element = pair.matched(PROPOSED)
    with stages.stage("move and merge at 0.9"):
        merged = pair.with_weights(pg.merge(pair.a, pair.with_weights(pair.moved(element)), weight=0.9)).eval()
    wanted = [task for task in tasks() if task.name in options.tasks]
    for name, model in (("A", pair.a), ("B", pair.b), ("the merge", merged)):
        with stages.stage(f"probe {name} on {', '.join(options.tasks)}"):
            probe(model, wanted, seeds=1)
    about = {"parameters": sum(p.numel() for p in pair.a.parameters()), "groups": groups, "threads": options.threads}
    about |= {"certificate": max(pair.certificates.values()), "torch": torch.__version__, "stages": stages.rows}
    about |= {"measured": measured_with()}
    RESULT.write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
