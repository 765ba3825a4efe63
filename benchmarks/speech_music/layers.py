"""Layer by layer: what is alike in the two encoders, and where a merged model's representations leave both.

    python -m benchmarks.speech_music.layers --name shipped

For every group the mean correlation of matched units, matched on training audio and measured on held-out audio: as B
stands, aligned, and aligned to an encoder with random weights, which is what an assignment finds where nothing was
learned in common. For every layer linear CKA (arXiv 1905.00414) of merged models with A and with B.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import HubertModel

import permgraph as pg
from benchmarks.speech_music import controls
from benchmarks.speech_music.pair import Calibration, Encoders
from benchmarks.speech_music.rows import EVERYTHING, PROPOSED
from benchmarks.speech_music.run import experiment_folder, parser, write

MERGES = (0.5, 0.9)


def group_rows(pair: Encoders, seconds: int) -> list[dict[str, Any]]:
    """A row for each group: correlations on held-out audio, and the share of its units that move."""
    heard = Calibration("both", seconds, pair.calibration.corpus, "heldout")
    element = pair.matched(EVERYTHING)
    torch.manual_seed(0)
    blank = Encoders(HubertModel(pair.a.config).eval(), pair.b, calibration=pair.calibration)
    found = {
        "identity": pair.correlations(pair.spec.identity(), heard),
        "aligned": pair.correlations(element, heard),
        "fitted": pair.correlations(element, pair.calibration),
        "random": blank.correlations(blank.matched(EVERYTHING), replace(heard)),
    }
    moved = element.moved
    return [
        {"group": group.name, "role": group.role, "size": group.size, "count": group.count, "moved": moved[group.name]}
        | {kind: round(values[group.name], 4) for kind, values in found.items()}
        for group in pair.spec.groups
        if group.name in found["identity"]
    ]


@torch.inference_mode()
def representations(model: nn.Module, batches: list[dict[str, Tensor]]) -> dict[str, np.ndarray]:
    """Layer -> (frames, channels): the convolutions' outputs, then all hidden states; every 7th frame of the first."""
    outputs: dict[str, list[Tensor]] = {}
    hooks = []
    for k, layer in enumerate(model.feature_extractor.conv_layers):

        def keep(_module: nn.Module, _inputs: object, output: Tensor, k: int = k) -> None:
            step = max(1, output.shape[-1] // 250)
            outputs.setdefault(f"conv {k}", []).append(output[..., ::step].transpose(1, 2).flatten(0, 1))

        hooks.append(layer.register_forward_hook(keep))
    try:
        for batch in batches:
            for k, states in enumerate(model(**batch, output_hidden_states=True).hidden_states):
                outputs.setdefault("projected" if k == 0 else f"layer {k - 1}", []).append(states.flatten(0, 1))
    finally:
        for hook in hooks:
            hook.remove()
    return {name: torch.cat(parts).double().numpy() for name, parts in outputs.items()}


def cka(x: np.ndarray, y: np.ndarray) -> float:
    """Linear CKA, |Xᵀ Y|² / (|Xᵀ X| |Yᵀ Y|) of centred features: 1 for the same up to rotation and scale."""
    x, y = x - x.mean(0), y - y.mean(0)
    return float(np.linalg.norm(x.T @ y) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)))


def departures(pair: Encoders, seconds: int) -> list[dict[str, Any]]:
    """For every merged model and layer, CKA with A and with B; "A" against B first."""
    heard = Calibration("both", seconds, pair.calibration.corpus, "heldout")
    batches = list(heard.batches())
    one, other = representations(pair.a, batches), representations(pair.b, batches)
    found = [{"model": "A", "weight": 1.0, "layer": k, "a": 1.0, "b": cka(one[k], other[k])} for k in one]
    moves = {
        "linear": pair.pair.states[1],
        "proposed": pair.moved(pair.matched(PROPOSED)),
        "every group": pair.moved(pair.matched(EVERYTHING)),
        "random valid": pair.moved(controls.random_valid(pair.spec, PROPOSED, 0)),
    }
    for name, state in moves.items():
        for weight in MERGES:
            merged = pg.merge(pair.a, pair.with_weights(state), weight=weight)
            own = representations(pair.with_weights(merged).eval(), batches)
            at = {"model": name, "weight": weight}
            found += [at | {"layer": k, "a": cka(own[k], one[k]), "b": cka(own[k], other[k])} for k in own]
    return [{k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()} for row in found]


def main() -> None:
    options = parser().parse_args()
    torch.set_num_threads(options.threads)
    pair = Encoders.load(options.a, options.b, calibration=Calibration(seconds=options.calibration_seconds))
    found = {"groups": group_rows(pair, 240), "departures": departures(pair, 60)}
    write(experiment_folder(options.name) / "layers.json", found)


if __name__ == "__main__":
    main()
