"""How long does a HuBERT-base pair take, and where does the time go? Random weights, a planted element, real audio.

Writes `benchmarks/results/full_size.json`: seconds of every stage, of the clock and of all threads' CPU, beside the two
forward passes and the bare cross-moment products of the same run, peak memory, and whether the planted element was
recovered. *Over bare*: CPU seconds over those of forward passes and products, on one thread: waiting ones spend CPU.
"""

import argparse
import json
import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path

import torch
from transformers import HubertConfig, HubertModel

import permgraph as pg
from benchmarks.measured_with import measured_with
from benchmarks.random_weights import with_random_weights
from permgraph.assignment.solve import solve
from permgraph.comparing.models import Models
from permgraph.comparing.points import Point, find_points
from permgraph.data.audio import AudioBatches
from permgraph.matching.alignment import Alignment
from permgraph.matching.correlation import correlation_terms
from permgraph.symmetry.derivation.derive import Derivation
from permgraph.symmetry.proof.verification import certify
from permgraph.tracing.capture import capture
from permgraph.tracing.run import bind

RESULT = Path(__file__).parent / "results" / "full_size.json"
FORWARD, PRODUCTS = "two forward passes alone", "cross-moment products alone"
GATHER, ASSIGN = "gather (forwards and moments)", "assign"
TIE = {("masked_spec_embed", 0): ("encoder.layer_norm.weight", 0)}


def peak_mb() -> float:
    """Largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Stages:
    """Seconds and peak memory of named stages."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, float]] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start, cpu = time.perf_counter(), time.process_time()
        yield
        self.rows[name] = {
            "seconds": round(time.perf_counter() - start, 3),
            "cpu_seconds": round(time.process_time() - cpu, 3),
            "peak_mb": round(peak_mb()),
        }
        print(f"{name:32s} {self.rows[name]}", flush=True)

    def over_bare(self, *names: str) -> float:
        """CPU seconds of these stages over those of what cannot be left out."""
        bare = sum(self.rows[name]["cpu_seconds"] for name in (FORWARD, PRODUCTS))
        return round(sum(self.rows[name]["cpu_seconds"] for name in names) / bare, 3)


def random_model(seed: int) -> HubertModel:
    """HuBERT-base with random weights."""
    return with_random_weights(lambda: HubertModel(HubertConfig()), seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--audio", type=Path, default=Path(pg.__file__).parent / "demo/assets/clips/calibration")
    parser.add_argument("--windows", type=int, default=4, help="windows of 5 s")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    stages = Stages()
    batches = list(AudioBatches(options.audio, batch_size=2, limit=options.windows))
    with stages.stage("derive on meta, no weights"):
        with torch.device("meta"):
            shell = HubertModel(HubertConfig()).eval()
        spec = pg.derive(shell, (), batches[0], outputs="free", tie=TIE)
    result = run(stages, spec, batches)
    result |= {"stages": stages.rows, "threads": options.threads, "torch": torch.__version__}
    result |= {"measured": measured_with()}
    result |= {"audio_seconds": sum(b["input_values"].numel() for b in batches) / 16000}
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


def run(stages: Stages, spec: pg.PermutationSpec, batches: list[dict[str, torch.Tensor]]) -> dict[str, object]:
    """Plant a random element, recover it stage by stage, and compare."""
    a, b = random_model(0), random_model(0)
    planted = spec.sample(1)
    with stages.stage("apply an element"):
        moved = spec.apply(planted, b.state_dict())
    b.load_state_dict(moved)
    del moved
    with stages.stage(FORWARD), torch.no_grad():
        for batch in batches:
            for model in (a, b):
                model(**batch)
    before = peak_mb()
    alignment, points = align(stages, a, b, spec, batches)
    with stages.stage(PRODUCTS):
        bare_products(points, len(batches))
    merged = pg.merge(a, b, alignment=alignment, weight=0.5)
    inverse = spec.invert(planted)
    return {
        "groups": len(spec.groups),
        "gather_over_bare": stages.over_bare(GATHER),
        "gather_and_assign_over_bare": stages.over_bare(GATHER, ASSIGN),
        "log10_order": spec.log10_order,
        "parameters": sum(p.numel() for p in a.parameters()),
        "recovered": sum(bool((inverse[g] == alignment.permutations[g]).all()) for g in inverse),
        "merged_minus_a": max(float((merged[k] - v).abs().max()) for k, v in a.state_dict().items()),
        "certificate_error": alignment.certificate.max_error,
        "peak_before_align_mb": round(before),
        "peak_mb": round(peak_mb()),
    }


def align(
    stages: Stages, a: HubertModel, b: HubertModel, spec: pg.PermutationSpec, batches: list[dict[str, torch.Tensor]]
) -> tuple[Alignment, list[Point]]:
    """What `pg.align` does, a stage at a time."""
    state_b = dict(b.state_dict())
    with stages.stage("capture both and derive"):
        models = Models.of((a, b))
        program = models.program(((), batches[0]))
        derivation = Derivation(program, "free", {})
        points = find_points(derivation, [g.name for g in spec.groups])
    with stages.stage(GATHER):
        terms = correlation_terms(models, points, batches)
    with stages.stage(ASSIGN):
        found = solve(spec.groups, terms)
    threads = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    with stages.stage(f"assign on {torch.get_num_threads()} threads"):
        alone = solve(spec.groups, terms)
    torch.set_num_threads(threads)
    assert all((found[name] == alone[name]).all() for name in found), "threads changed an assignment"
    del terms
    permutations = pg.Permutations(found)
    with stages.stage("verify on 1 s"):
        example = {"input_values": batches[0]["input_values"][:1, :16000]}
        program = capture(b, (), example)
        certificate = certify(program, spec, state_b, bind(program, (), example), element=permutations, trials=1)
    return Alignment(permutations, spec, {}, certificate, "correlation", found.exact, models), points


def bare_products(points: list[Point], batches: int) -> None:
    """One float32 product [n, frames] x [frames, n] for every point and batch."""
    for point in points:
        n = prod(point.sizes)
        x = torch.randn(prod(point.shape) // n, n)
        for _ in range(batches):
            torch.mm(x.T, x)


if __name__ == "__main__":
    main()
