"""HuBERT's second iteration: targets from the hidden states of an encoder of the first.

    python -m benchmarks.speech_music.second_teacher --encoder permgraph/demo/assets/speech

Clusters the states behind a middle layer, as HuBERT does (arXiv 2106.07447, section IV: layer 6 of 12), and writes
``<split>-hidden-targets.npy`` beside the first teacher's targets.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from transformers import HubertModel

import permgraph as pg
from benchmarks.speech_music.features import HOP, WINDOW, clusters, frame_count, standardised
from benchmarks.speech_music.packages import CORPORA
from benchmarks.speech_music.prepare import SPLITS
from benchmarks.speech_music.recordings import folder_of
from benchmarks.speech_music.streams import normalised

NAME = "hidden-targets"
CHUNK = 1000
BATCH = 4


@torch.inference_mode()
def hidden_states(model: HubertModel, samples: NDArray[np.int16], layer: int, device: str) -> NDArray[np.float16]:
    """States behind `layer`, one row for each 320 samples, from crops of 20 s laid end to end."""
    rows = frame_count(len(samples))
    starts = list(range(0, rows, CHUNK))
    states = np.zeros((len(samples) // HOP, model.config.hidden_size), np.float16)
    for k in track(range(0, len(starts), BATCH), description=f"layer {layer}"):
        for group in _equal(starts[k : k + BATCH], rows):
            crops = [samples[s * HOP : (s + length - 1) * HOP + WINDOW] for s, length in group]
            audio = torch.from_numpy(normalised(np.stack(crops))).to(device)
            found = model(audio, output_hidden_states=True).hidden_states[layer].half().cpu().numpy()
            for (start, length), own in zip(group, found, strict=True):
                states[start : start + length] = own
    return states


def _equal(starts: list[int], rows: int) -> list[list[tuple[int, int]]]:
    """(start, length) of each crop, those of one length together."""
    spans = [(start, min(CHUNK, rows - start)) for start in starts]
    return [[s for s in spans if s[1] == length] for length in dict.fromkeys(length for _, length in spans)]


def write_targets(folder: Path, encoder: Path, layer: int, device: str, seed: int = 0) -> None:
    """One clustering of all splits' states; written for each split."""
    model = pg.load(str(encoder)).model.to(device).eval()
    streams = {split: np.load(folder / f"{split}.npy", mmap_mode="r") for split in SPLITS}
    states = [hidden_states(model, streams[split], layer, device) for split in SPLITS]
    labels = clusters(standardised(np.concatenate(states).astype(np.float32)), seed)[:, None]
    for split, part in zip(SPLITS, np.split(labels, [len(states[0])]), strict=True):
        np.save(folder / f"{split}-{NAME}.npy", part)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domain", default="speech")
    parser.add_argument("--corpus", choices=CORPORA, default="shipped", help="what `prepare` has made")
    parser.add_argument("--encoder", type=Path, required=True, help="folder of the first iteration's encoder")
    parser.add_argument("--layer", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--skip-done", action="store_true", help="leave a domain alone whose targets are there")
    options = parser.parse_args()
    folder = folder_of(options.domain, options.corpus)
    if options.skip_done and (folder / f"{SPLITS[-1]}-{NAME}.npy").exists():
        return
    write_targets(folder, options.encoder, options.layer, options.device)


if __name__ == "__main__":
    main()
