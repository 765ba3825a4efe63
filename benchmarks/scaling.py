"""How does the time to derive grow with depth and with unrolled steps, and what does it add to `torch.export` alone?

GPT-2 of width 64 with 12, 24 and 48 layers, a state-space model (Mamba, 2 layers of width 32) whose trace writes out
32 to 256 tokens one by one, HuBERT-base, and the configurations of Llama-3-8B and -70B, all on meta. Every
measurement is a process of its own on one thread: imports, and an export and a derivation of one linear layer, come
before the clock; `peak_mb` is the largest resident size of the process, `before_mb` that size when the clock starts.
Seconds are of processor time, the least of the repetitions, since other work on the machine only adds to them.
Writes `benchmarks/results/scaling.json`; with `--only` the other rows are kept.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measured_with import measured_with

if TYPE_CHECKING:
    from torch import nn

RESULT = Path(__file__).parent / "results" / "scaling.json"
DEPTHS = (12, 24, 48)
LENGTHS = (32, 64, 128, 256)
LLAMA = {
    "vocab_size": 128256,
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
}
LARGE = {"hidden_size": 8192, "num_hidden_layers": 80, "num_attention_heads": 64, "intermediate_size": 28672}
MODELS = (
    *(f"GPT-2, width 64, {depth} layers" for depth in DEPTHS),
    *(f"Mamba, width 32, 2 layers, {length} tokens" for length in LENGTHS),
    "HuBERT-base",
    "Llama-3-8B",
    "Llama-3-70B",
)
STAGES = ("export", "derive")
TIMEOUT = 300


def build(name: str) -> tuple[nn.Module, dict[str, Any]]:
    """A model on meta and example inputs."""
    import torch
    import transformers as hf

    with torch.device("meta"):
        tokens = {"input_ids": torch.zeros(1, 8, dtype=torch.long)}
        if name == "HuBERT-base":
            return hf.HubertModel(hf.HubertConfig()).eval(), {"input_values": torch.zeros(1, 16000)}
        if name.startswith("Llama"):
            fields = LLAMA if name == "Llama-3-8B" else LLAMA | LARGE
            return hf.LlamaForCausalLM(hf.LlamaConfig(use_cache=False, **fields)).eval(), tokens
        if name.startswith("Mamba"):
            small = hf.MambaConfig(use_cache=False, hidden_size=32, num_hidden_layers=2, vocab_size=99, state_size=4)
            tokens = {"input_ids": torch.zeros(1, int(name.split()[-2]), dtype=torch.long)}
            return hf.MambaForCausalLM(small).eval(), tokens
        layers = int(name.split()[-2])
        return hf.GPT2LMHeadModel(hf.GPT2Config(use_cache=False, n_embd=64, n_head=4, n_layer=layers)).eval(), tokens


def peak_mb() -> int:
    """Largest resident size of this process so far."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def one(name: str, stage: str) -> dict[str, Any]:
    """One measurement, in this process."""
    import torch

    import permgraph as pg

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    small, inputs = torch.nn.Linear(2, 3).eval(), {"input": torch.randn(1, 2)}
    torch.export.export(small, (), inputs, strict=False)
    pg.derive(small, (), inputs)
    model, inputs = build(name)
    before, start = peak_mb(), time.process_time()
    with torch.no_grad():
        if stage == "export":
            program = torch.export.export(model, (), inputs, strict=False)
            found = {"nodes": len(program.graph.nodes)}
        else:
            spec = pg.derive(model, (), inputs)
            found = {"groups": len(spec.groups), "log10_order": spec.log10_order, "coverage": spec.coverage}
    taken = time.process_time() - start
    size = {"parameters": sum(p.numel() for p in model.parameters()), "torch": torch.__version__}
    return {"seconds": taken, "before_mb": before, "peak_mb": peak_mb(), **found, **size}


def repeated(name: str, stage: str, repeat: int) -> list[dict[str, Any]]:
    """The measurement in processes of its own."""
    command = [sys.executable, __file__, "--one", name, stage]
    runs = (subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=True) for _ in range(repeat))
    return [json.loads(run.stdout.splitlines()[-1]) for run in runs]


def measure(name: str, repeat: int) -> dict[str, Any]:
    """One row of the table."""
    runs = {stage: repeated(name, stage, repeat) for stage in STAGES}
    taken = {stage: min(run["seconds"] for run in runs[stage]) for stage in STAGES}
    row: dict[str, Any] = {"name": name, "repeat": repeat, **runs["export"][0], **runs["derive"][0]}
    row |= {f"{stage}_seconds": round(taken[stage], 3) for stage in STAGES}
    row |= {f"{stage}_peak_mb": max(run["peak_mb"] for run in runs[stage]) for stage in STAGES}
    del row["seconds"], row["peak_mb"]
    return row | {"ratio": round(taken["derive"] / taken["export"], 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=2, metavar=("MODEL", "STAGE"), help="one measurement, printed as JSON")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", default="", help="models whose name contains this")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(*options.one)))
        return
    known = json.loads(RESULT.read_text())["rows"] if options.only else []
    rows = {row["name"]: row for row in known}
    for name in (name for name in MODELS if options.only in name):
        rows[name] = measure(name, options.repeat) | {"measured": measured_with()}
        torch_version = rows[name].pop("torch")
        print(rows[name], flush=True)
    kept = [rows[name] for name in MODELS if name in rows]
    RESULT.write_text(json.dumps({"rows": kept, "torch": torch_version, "threads": 1}, indent=1) + "\n")


if __name__ == "__main__":
    main()
