"""One command for the whole experiment, in the order of `STAGES`; every stage goes on where it was stopped.

    python -m benchmarks.speech_music.everything                  # data, encoders, merging, probing, the page
    python -m benchmarks.speech_music.everything --from merge     # from the shipped encoders: no training
    python -m benchmarks.speech_music.everything --only page

What is trained and merged, and with which options, is in a manifest, `manifest.json` by default.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from multiprocessing.pool import ThreadPool
from pathlib import Path

from benchmarks.measured_with import measured_with
from benchmarks.speech_music.export import ASSETS
from benchmarks.speech_music.fetch import DATA
from benchmarks.speech_music.page import TIMES
from benchmarks.speech_music.pair import Calibration
from benchmarks.speech_music.trained import MANIFEST

STAGES = ("fetch", "prepare", "train", "merge", "page")
HERE = "benchmarks.speech_music"


def call(module: str, *options: str) -> list[str]:
    """The command line of one of this folder's programs."""
    return [sys.executable, "-m", f"{HERE}.{module}", *options]


def together(commands: list[list[str]]) -> None:
    """Run commands at once, one process each; the first that fails ends this one."""
    running = [subprocess.Popen(command) for command in commands]
    failed = [process.args for process in running if process.wait()]
    if failed:
        sys.exit(f"failed: {' '.join(map(str, failed[0]))}")


def prepare(corpus: str) -> None:
    """What the encoders are trained on, what the merges are calibrated on, and the probes' clips."""
    for one in dict.fromkeys((Calibration.corpus, corpus)):
        together([call("prepare", "--corpus", one, "--skip-done")])
    together([call("probe_audio")])


def train(manifest: dict[str, object], device: str, processes: int) -> None:
    """One of HuBERT's iterations after the other: its teacher, then the encoders it still lacks, so many at once."""
    common = ["--corpus", manifest["corpus"], "--device", device]
    for iteration in manifest["iterations"]:
        if "second_teacher" in iteration:
            together([call("second_teacher", *common, "--skip-done", *iteration["second_teacher"])])
        runs = [run for run in iteration["encoders"] if not _done(run)]
        commands = [call("train", run["domain"], "--run", run["run"], *common, *run["options"]) for run in runs]
        with ThreadPool(processes) as pool:
            pool.map(lambda command: together([command]), commands, chunksize=1)
    for domain, run in manifest["ships"].items():
        shutil.copytree(DATA / "runs" / run / "encoder", ASSETS / domain, dirs_exist_ok=True)


def _done(run: dict[str, object]) -> bool:
    return (DATA / "runs" / run["run"] / "encoder" / "model.safetensors").exists()


def merge(manifest: dict[str, object], wanted: list[str], device: str, processes: int) -> None:
    """Merge and probe the pairs, each by several processes, those with "layers" also by layer; then the summary."""
    pairs = [pair for pair in manifest["pairs"] if not wanted or pair["name"] in wanted]
    for pair in pairs:
        about = ["--name", pair["name"], "--a", pair["a"], "--b", pair["b"], "--device", device, *pair["options"]]
        together([call("run", *about)] * processes)
        if pair.get("layers"):
            together([call("layers", *about)])
    together([call("summary", *[pair["name"] for pair in pairs])])


def record(first: str, minutes: dict[str, float], processes: int) -> None:
    """What the stages before the page took: an entry for each stage that a call may begin with."""
    known = json.loads(TIMES.read_text()) if TIMES.exists() else {}
    entry = {"minutes": minutes, "processes": processes, "measured": measured_with()}
    TIMES.write_text(json.dumps(known | {first: entry}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="first", choices=STAGES, default="fetch")
    parser.add_argument("--only", choices=STAGES)
    parser.add_argument("--manifest", type=Path, default=MANIFEST)
    parser.add_argument("--pairs", nargs="*", default=[], help="names of the manifest (with --from merge, the shipped)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    manifest = json.loads(options.manifest.read_text())
    corpus = manifest["corpus"]
    stages = [options.only] if options.only else list(STAGES[STAGES.index(options.first) :])
    needs = ["fetch", "prepare"] if options.first == "merge" and not options.only else []
    pairs = options.pairs or (["shipped"] if options.first == "merge" else [])
    minutes: dict[str, float] = {}
    for stage in [*needs, *stages]:
        began = time.monotonic()
        if stage == "fetch":
            together([call("fetch", "--corpus", corpus)])
        elif stage == "prepare":
            prepare(corpus)
        elif stage == "train":
            train(manifest, options.device, options.processes)
        elif stage == "merge":
            merge(manifest, pairs, options.device, options.processes)
        else:
            together([call("page")])
        if stage != "page" and not options.only and not options.pairs and options.manifest == MANIFEST:
            minutes[stage] = round((time.monotonic() - began) / 60, 1)
            record(options.first, minutes, options.processes)


if __name__ == "__main__":
    main()
