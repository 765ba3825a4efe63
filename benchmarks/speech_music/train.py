"""Train one small encoder by HuBERT's masked prediction of clusters (arXiv 2106.07447, section II).

    python -m benchmarks.speech_music.train speech --seed 1
    python -m benchmarks.speech_music.train music --seed 2

Loss = alpha CE(masked frames) + (1 - alpha) CE(the other frames), averaged over label streams, with
logits cos(A o_t, e_c) / 0.1. Spans of 10 frames are masked, each frame starting one with probability
0.08. Resumes from ``data/runs/<run>/checkpoint.pt``; every batch depends on (seed, step) alone, so a
resumed run continues as an unbroken one. The learning rate rises, holds, and falls over the last 40 %
of the steps, so that `--steps` may still be changed on the way. The log, ``log.jsonl`` beside the
checkpoint, is one JSON object a line.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from transformers import HubertModel

from benchmarks.speech_music.export import encoder_config, write_folder
from benchmarks.speech_music.features import CLUSTERS, HOP, WINDOW
from benchmarks.speech_music.fetch import DATA

TEMPERATURE = 0.1
MASK_START = 0.08
MASK_LENGTH = 10
HELDOUT_BATCHES = 8


@dataclass(frozen=True)
class Batch:
    """Audio (n, samples), mean 0 and variance 1; labels (n, frames, streams); mask (n, frames)."""

    audio: Tensor
    labels: Tensor
    mask: Tensor


class MaskedPredictor(nn.Module):
    """The encoder and, for each label stream, a projection A and an embedding e_c per cluster."""

    def __init__(self, streams: int, width: int = 64) -> None:
        super().__init__()
        self.encoder = HubertModel(encoder_config())
        hidden = self.encoder.config.hidden_size
        self.projections = nn.ModuleList(nn.Linear(hidden, width) for _ in range(streams))
        self.embeddings = nn.Parameter(torch.randn(streams, CLUSTERS, width))

    def forward(self, audio: Tensor, mask: Tensor) -> Tensor:
        """Logits (streams, n, frames, clusters): cos(A o_t, e_c) / 0.1."""
        hidden = self.encoder(audio, mask_time_indices=mask).last_hidden_state
        outputs = torch.stack([projection(hidden) for projection in self.projections])
        codes = normalize(self.embeddings, dim=-1)[:, None]
        return normalize(outputs, dim=-1) @ codes.transpose(-1, -2) / TEMPERATURE


class Stream:
    """Random crops of one split: `samples` int16, `targets` one row for each 320 samples.

    Crops start anywhere with equal chance; `balanced`, each source (package) with equal chance.
    """

    def __init__(self, domain: str, split: str, balanced: bool = False) -> None:
        folder = DATA / "prepared" / domain
        self.samples: NDArray[np.int16] = np.load(folder / f"{split}.npy", mmap_mode="r")
        self.targets: NDArray[np.uint8] = np.load(folder / f"{split}-targets.npy")
        clips = json.loads((folder / "manifest.json").read_text())
        self.regions = regions([c for c in clips if c["split"] == split], balanced)

    def batch(self, rng: np.random.Generator, size: int, frames: int) -> Batch:
        """`size` crops of `frames` frames at multiples of 320 samples, with a mask each."""
        chosen = rng.integers(0, len(self.regions), size)
        starts = [int(rng.integers(first, last - frames)) for first, last in self.regions[chosen]]
        length = (frames - 1) * HOP + WINDOW
        crops = np.stack([self.samples[s * HOP : s * HOP + length] for s in starts])
        audio = crops.astype(np.float32)
        audio -= audio.mean(1, keepdims=True)
        audio /= audio.std(1, keepdims=True) + 1e-3
        labels = np.stack([self.targets[s : s + frames] for s in starts]).astype(np.int64)
        return Batch(*map(torch.from_numpy, (audio, labels, span_mask(rng, size, frames))))


def regions(clips: list[dict[str, Any]], balanced: bool) -> NDArray[np.int64]:
    """(first, last) frame of the whole split, or of each source if `balanced`: (regions, 2)."""
    spans: dict[str, list[int]] = {}
    for clip in clips:
        ends = (clip["offset"] // HOP, (clip["offset"] + clip["samples"]) // HOP - 1)
        spans.setdefault(clip["source"] if balanced else "", []).extend(ends)
    return np.array([(min(ends), max(ends)) for ends in spans.values()])


def span_mask(rng: np.random.Generator, size: int, frames: int) -> NDArray[np.bool_]:
    """True where masked: a frame starts a span of 10 with probability 0.08; spans may overlap."""
    starts = rng.random((size, frames)) < MASK_START
    starts[:, 0] |= ~starts.any(axis=1)
    mask = starts.copy()
    for shift in range(1, MASK_LENGTH):
        mask[:, shift:] |= starts[:, :-shift]
    return mask


def masked_loss(logits: Tensor, batch: Batch, alpha: float) -> tuple[Tensor, Tensor]:
    """(loss, accuracy on masked frames for each stream)."""
    labels = batch.labels.permute(2, 0, 1)
    entropy = cross_entropy(logits.flatten(0, 2), labels.flatten(), reduction="none")
    entropy = entropy.view(labels.shape)
    loss = alpha * entropy[:, batch.mask].mean() + (1 - alpha) * entropy[:, ~batch.mask].mean()
    hits = (logits.argmax(-1) == labels)[:, batch.mask].float().mean(1)
    return loss, hits.detach()


def rate_factor(step: int, steps: int, warmup: int = 200) -> float:
    """Learning rate over its peak: linear rise, flat, linear fall over the last 40 % of `steps`."""
    return min(1.0, (step + 1) / warmup, max(0.0, (steps - step) / (0.4 * steps)))


def optimizer(model: nn.Module, rate: float) -> torch.optim.AdamW:
    """AdamW, weight decay 0.01 on matrices and none on vectors."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))


@torch.no_grad()
def heldout(model: MaskedPredictor, stream: Stream, options: argparse.Namespace) -> dict[str, object]:
    """Loss and masked accuracy on the same held-out crops and masks every time, dropout off."""
    model.eval()
    results = []
    for index in range(HELDOUT_BATCHES):
        batch = stream.batch(np.random.default_rng(index), options.batch, options.frames)
        results.append(masked_loss(model(batch.audio, batch.mask), batch, options.alpha))
    model.train()
    return means(results, "heldout_")


def train_step(
    model: MaskedPredictor, adam: torch.optim.AdamW, batch: Batch, options: argparse.Namespace
) -> tuple[Tensor, Tensor]:
    """One update; the encoder's activations in bfloat16 unless `--fp32`, weights and loss fp32."""
    with torch.autocast("cpu", torch.bfloat16, enabled=not options.fp32):
        logits = model(batch.audio, batch.mask)
    loss, hits = masked_loss(logits.float(), batch, options.alpha)
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


def resume(path: Path, model: nn.Module, adam: torch.optim.AdamW) -> int:
    """Load the checkpoint if there is one; return the step to go on from."""
    if not path.exists():
        return 0
    stored = torch.load(path, weights_only=True)
    model.load_state_dict(stored["model"])
    adam.load_state_dict(stored["optimizer"])
    return int(stored["step"])


def train(options: argparse.Namespace) -> None:
    """Train to `options.steps` (or `until`), a checkpoint every `options.every`; then write the assets."""
    folder = DATA / "runs" / (options.run or options.domain)
    folder.mkdir(parents=True, exist_ok=True)
    training = Stream(options.domain, "train", options.balanced)
    unseen = Stream(options.domain, "heldout")
    torch.manual_seed(options.seed)
    model = MaskedPredictor(training.targets.shape[1]).train()
    adam = optimizer(model, options.rate)
    began, history = time.monotonic(), []
    last = options.until or options.steps
    for step in range(resume(folder / "checkpoint.pt", model, adam), last):
        for group in adam.param_groups:
            group["lr"] = options.rate * rate_factor(step, options.steps)
        torch.manual_seed(options.seed * 1_000_003 + step)
        rng = np.random.default_rng((options.seed, step))
        batch = training.batch(rng, options.batch, options.frames)
        history.append(train_step(model, adam, batch, options))
        if (step + 1) % options.every == 0 or step + 1 == last:
            record = {"step": step + 1, "seconds": round(time.monotonic() - began, 1)}
            append(folder / "log.jsonl", record | means(history) | heldout(model, unseen, options))
            save(folder / "checkpoint.pt", step + 1, model, adam)
            history = []
    write_folder(options.domain, model.encoder, options.out)


def means(history: list[tuple[Tensor, Tensor]], prefix: str = "") -> dict[str, object]:
    """Mean loss, and mean masked accuracy of each label stream, under names that begin with `prefix`."""
    loss, hits = (torch.stack(values).mean(0) for values in zip(*history, strict=True))
    return {f"{prefix}loss": loss.item(), f"{prefix}accuracy": hits.tolist()}


def append(path: Path, record: dict[str, object]) -> None:
    """Add `record` to the log, one JSON object a line."""
    with path.open("a") as log:
        log.write(json.dumps(record) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("domain", choices=("speech", "music"))
    parser.add_argument("--run", help="folder under data/runs (the domain)")
    parser.add_argument("--out", type=Path, help="where to write the encoder (the demo's assets)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--until", type=int, help="stop early, at this step of the schedule of --steps")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--frames", type=int, default=175, help="frames of 20 ms in a crop")
    parser.add_argument("--rate", type=float, default=1.5e-3, help="peak learning rate")
    parser.add_argument("--alpha", type=float, default=0.7, help="share of the masked frames")
    parser.add_argument("--balanced", action="store_true", help="draw crops equally from each source")
    parser.add_argument("--every", type=int, default=200, help="steps between checkpoints")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--fp32", action="store_true", help="no bfloat16 autocast")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    train(options)


if __name__ == "__main__":
    main()
