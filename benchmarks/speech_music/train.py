"""Train one small encoder by HuBERT's masked prediction of clusters (arXiv 2106.07447, section II).

    python -m benchmarks.speech_music.train speech --seed 1                                    # first iteration
    python -m benchmarks.speech_music.train speech --seed 1 --run speech-2 --teacher hidden-targets   # second
    python -m benchmarks.speech_music.train music --seed 2 --reconstruct 1                     # as MERT

Loss: `objective.masked_loss`. Resumes from ``data/runs/<run>/checkpoint.pt``; every batch depends on (seed, step)
alone, so a resumed run continues as an unbroken one. The learning rate rises, holds, and falls over the last 40 % of
the steps, so that `--steps` may still be changed on the way. The log, ``log.jsonl`` beside the checkpoint, is one
JSON object a line; the encoder is written to ``data/runs/<run>/encoder``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor, nn

import permgraph as pg
from benchmarks.speech_music.export import encoder_config, write_folder
from benchmarks.speech_music.fetch import DATA
from benchmarks.speech_music.objective import MaskedPredictor, masked_loss
from benchmarks.speech_music.packages import CORPORA
from benchmarks.speech_music.precision import computing
from benchmarks.speech_music.streams import Batch, Stream

HELDOUT_BATCHES = 8


def rate_factor(step: int, steps: int, warmup: int = 200) -> float:
    """Learning rate over its peak: linear rise, flat, linear fall over the last 40 % of `steps`."""
    return min(1.0, (step + 1) / warmup, max(0.0, (steps - step) / (0.4 * steps)))


def optimizer(model: nn.Module, rate: float) -> torch.optim.AdamW:
    """AdamW, weight decay 0.01 on matrices and none on vectors."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))


def loss_of(model: MaskedPredictor, batch: Batch, options: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """(loss, hits) of a batch; the encoder's activations as `precision` says, weights and loss fp32."""
    batch = batch.to(options.device)
    with computing(options.device, options.fp32):
        logits, bands = model(batch.audio, batch.mask)
    bands = None if bands is None else bands.float()
    return masked_loss(logits.float(), bands, batch, options.alpha, options.reconstruct)


@torch.no_grad()
def heldout(model: MaskedPredictor, stream: Stream | None, options: argparse.Namespace) -> dict[str, object]:
    """Loss and masked accuracy on the same held-out crops and masks every time, dropout off."""
    if stream is None:
        return {}
    model.eval()
    batches = (
        stream.batch(np.random.default_rng(k), options.batch, options.frames) for k in range(options.heldout_batches)
    )
    results = [loss_of(model, batch, options) for batch in batches]
    model.train()
    return means(results, "heldout_")


def train_step(
    model: MaskedPredictor, adam: torch.optim.AdamW, batch: Batch, options: argparse.Namespace
) -> tuple[Tensor, Tensor]:
    """One update, the gradient's norm held at 1."""
    loss, hits = loss_of(model, batch, options)
    adam.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    adam.step()
    return loss.detach(), hits


def save(path: Path, step: int, model: nn.Module, adam: torch.optim.AdamW) -> None:
    """A checkpoint, replaced in one move."""
    partial = path.with_suffix(".partial")
    torch.save({"step": step, "model": model.state_dict(), "optimizer": adam.state_dict()}, partial)
    partial.replace(path)


def resume(path: Path, model: nn.Module, adam: torch.optim.AdamW, device: str) -> int:
    """Load the checkpoint if there is one; return the step to go on from."""
    if not path.exists():
        return 0
    stored = torch.load(path, weights_only=True, map_location=device)
    model.load_state_dict(stored["model"])
    adam.load_state_dict(stored["optimizer"])
    return int(stored["step"])


def streams(options: argparse.Namespace) -> tuple[Stream, Stream | None]:
    """The training and, if it is asked for, the held-out split."""
    wanted = {"corpus": options.corpus, "teacher": options.teacher, "reconstruct": options.reconstruct > 0}
    training = Stream(options.domain, "train", balanced=options.balanced, **wanted)
    return training, Stream(options.domain, "heldout", **wanted) if options.heldout_batches else None


def train(options: argparse.Namespace) -> Path:
    """Train to `options.steps` (or `until`), a checkpoint every `options.every`; return the encoder's folder."""
    folder = DATA / "runs" / (options.run or options.domain)
    folder.mkdir(parents=True, exist_ok=True)
    training, unseen = streams(options)
    torch.manual_seed(options.seed)
    model = MaskedPredictor(encoder_config(options.size, options.pre_norm), training.targets.shape[1], training.bands)
    if options.init is not None:
        model.encoder.load_state_dict(pg.load(str(options.init)).model.state_dict())
    if options.device == "cpu":  # whose fused attention is slow backwards: a sixth of the whole step
        model.encoder.set_attn_implementation("eager")
    model.to(options.device).train()
    adam = optimizer(model, options.rate)
    began, history = time.monotonic(), []
    last = options.until or options.steps
    first = resume(folder / "checkpoint.pt", model, adam, options.device)
    with Progress() as progress:
        bar = progress.add_task(folder.name, total=last, completed=first)
        for step in range(first, last):
            for group in adam.param_groups:
                group["lr"] = options.rate * rate_factor(step, options.steps)
            torch.manual_seed(options.seed * 1_000_003 + step)
            rng = np.random.default_rng((options.seed, step))
            history.append(train_step(model, adam, training.batch(rng, options.batch, options.frames), options))
            if (step + 1) % options.every == 0 or step + 1 == last:
                record = {"step": step + 1, "seconds": round(time.monotonic() - began, 1)}
                append(folder / "log.jsonl", record | means(history) | heldout(model, unseen, options))
                save(folder / "checkpoint.pt", step + 1, model, adam)
                history = []
            progress.update(bar, completed=step + 1)
    return write_folder(options.domain, model.encoder.cpu(), options.out or folder / "encoder")


def means(history: list[tuple[Tensor, Tensor]], prefix: str = "") -> dict[str, object]:
    """Mean loss, and mean masked accuracy of each label stream, under names that begin with `prefix`."""
    loss, hits = (torch.stack(values).mean(0) for values in zip(*history, strict=True))
    return {f"{prefix}loss": loss.item(), f"{prefix}accuracy": hits.tolist()}


def append(path: Path, record: dict[str, object]) -> None:
    """Add `record` to the log, one JSON object a line."""
    with path.open("a") as log:
        log.write(json.dumps(record) + "\n")


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("domain", choices=("speech", "music"))
    parser.add_argument("--run", help="folder under data/runs (the domain)")
    parser.add_argument("--out", type=Path, help="where to write the encoder (the run's folder)")
    parser.add_argument("--init", type=Path, help="folder of an encoder to go on from, with a head of its own")
    parser.add_argument("--size", default="small", help="small or medium: see export.SIZES")
    parser.add_argument("--pre-norm", action="store_true", help="norms as in HuBERT large and MERT 330M")
    parser.add_argument("--corpus", choices=CORPORA, default="shipped", help="what `prepare` has made")
    parser.add_argument("--teacher", default="targets", help="targets (first iteration) or hidden-targets (second)")
    parser.add_argument(
        "--reconstruct", type=float, default=0.0, help="weight of the spectrum's reconstruction in the loss"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--until", type=int, help="stop early, at this step of the schedule of --steps")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--frames", type=int, default=175, help="frames of 20 ms in a crop")
    parser.add_argument("--rate", type=float, default=1.5e-3, help="peak learning rate")
    parser.add_argument("--alpha", type=float, default=0.7, help="share of the masked frames")
    parser.add_argument("--balanced", action="store_true", help="draw crops equally from each source")
    parser.add_argument("--every", type=int, default=200, help="steps between checkpoints")
    parser.add_argument("--heldout-batches", type=int, default=HELDOUT_BATCHES)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--fp32", action="store_true", help="no bfloat16, also where it is faster")
    return parser.parse_args(arguments)


def main() -> None:
    options = options_of()
    torch.set_num_threads(options.threads)
    train(options)


if __name__ == "__main__":
    main()
