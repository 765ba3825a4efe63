"""One command for the whole experiment, in the order of `STAGES`; every stage goes on where it was stopped.

    python -m benchmarks.speech_music.everything                  # data, encoders, merging, probing, the page
    python -m benchmarks.speech_music.everything --from merge     # from the shipped encoders: no training
    python -m benchmarks.speech_music.everything --only page

What is trained and merged, and with which options, stands in a manifest, `manifest.json` by default.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from multiprocessing.pool import ThreadPool
from pathlib import Path

from benchmarks.speech_music.fetch import DATA

MANIFEST = Path(__file__).with_name("manifest.json")
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


def train(manifest: dict[str, object], device: str, processes: int) -> None:
    """One of HuBERT's iterations after the other: its teacher, then the encoders it still lacks, so many at once."""
    for iteration in manifest["iterations"]:
        if "second_teacher" in iteration:
            together([call("second_teacher", "--device", device, "--skip-done", *iteration["second_teacher"])])
        runs = [run for run in iteration["encoders"] if not _done(run)]
        commands = [
            call("train", run["domain"], "--run", run["run"], "--device", device, *run["options"]) for run in runs
        ]
        with ThreadPool(processes) as pool:
            pool.map(lambda command: together([command]), commands, chunksize=1)


def _done(run: dict[str, object]) -> bool:
    return (DATA / "runs" / run["run"] / "encoder" / "model.safetensors").exists()


def merge(manifest: dict[str, object], wanted: list[str], device: str, processes: int) -> None:
    """Merge and probe the pairs, each by several processes; then the analysis by layer and the summary."""
    pairs = [pair for pair in manifest["pairs"] if not wanted or pair["name"] in wanted]
    for pair in pairs:
        about = ["--name", pair["name"], "--a", pair["a"], "--b", pair["b"], "--device", device, *pair["options"]]
        together([call("run", *about, "--share", f"{k + 1}/{processes}") for k in range(processes)])
        together([call("layers", *about)])
    together([call("summary", *[pair["name"] for pair in pairs])])


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
    stages = [options.only] if options.only else list(STAGES[STAGES.index(options.first) :])
    needs = ["fetch", "prepare"] if options.first == "merge" and not options.only else []
    pairs = options.pairs or (["shipped"] if options.first == "merge" else [])
    for stage in [*needs, *stages]:
        if stage == "fetch":
            together([call("fetch", "--corpus", manifest["corpus"])])
        elif stage == "prepare":
            together([call("prepare", "--corpus", manifest["corpus"], "--skip-done")])
            together([call("probe_audio")])
        elif stage == "train":
            train(manifest, options.device, options.processes)
        elif stage == "merge":
            merge(manifest, pairs, options.device, options.processes)
        else:
            together([call("page")])


if __name__ == "__main__":
    main()
