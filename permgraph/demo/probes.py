"""Small probes of a frozen encoder, after SUPERB (arXiv 2105.01051): what its features know of speech and of music.

A probe is a softmax-weighted sum of all hidden states, averaged over the frames of each labelled
segment, and one linear layer. Its accuracy is counted on examples that share no utterance (phone), no
pitch (family) or no instrument (pitch) with those that it was fitted on. The clips and labels ship in
``assets/clips/probes``; no clip was in the encoders' pretraining.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import HubertModel

FOLDER = Path(__file__).resolve().parent / "assets" / "clips" / "probes"
RATE = 16000
STRIDE = 320
CENTRE = 200
BATCH = 64

Extent = tuple[str, float, float]


@dataclass(frozen=True)
class Example:
    """A labelled segment: `start` to `end`, in seconds, of `file`; `test` says which side of the split."""

    file: str
    start: float
    end: float
    label: str
    test: bool


@dataclass(frozen=True)
class Probe:
    """One classification task on real clips.

    `context`: whether the encoder gets the whole "file" or each "segment" separately.
    """

    name: str
    title: str
    domain: Literal["speech", "music"]
    metric: str
    context: Literal["file", "segment"]
    examples: tuple[Example, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels, sorted."""
        return tuple(sorted({example.label for example in self.examples}))

    @property
    def chance(self) -> float:
        """Test accuracy of always answering the label most frequent in the training examples."""
        training = Counter(e.label for e in self.examples if not e.test)
        guess = max(sorted(training), key=training.__getitem__)
        tested = [e.label for e in self.examples if e.test]
        return tested.count(guess) / len(tested)

    def score(self, model: HubertModel) -> float:
        """Test accuracy in [0, 1] of the probe fitted on `model`'s features.

        The same at every call with one number of threads; another number moves it by a few examples.
        `model` is not changed. Raises ValueError if it is in training mode, since masking and dropout
        would be on.
        """
        return scores(model, (self,))[self.name]


def scores(model: HubertModel, probes: Iterable[Probe] | None = None) -> dict[str, float]:
    """{name: test accuracy} of `probes` (all by default); those that hear the same audio share it.

    Raises ValueError where `model` is in training mode.
    """
    if model.training:
        raise ValueError("the probes need a frozen model in eval mode; call model.eval() first")
    found: dict[str, float] = {}
    features: dict[tuple[str, frozenset[Extent]], dict[Extent, Tensor]] = {}
    for probe in load_probes() if probes is None else probes:
        extents = frozenset((e.file, e.start, e.end) for e in probe.examples)
        key = (probe.context, extents)
        if key not in features:
            features[key] = _features(model, probe.context, sorted(extents))
        found[probe.name] = _fit_and_test(probe, features[key])
    return found


@cache
def load_probes() -> tuple[Probe, ...]:
    """The probes of ``labels.json``: "phone" on speech, "family" and "pitch" on music."""
    described = json.loads((FOLDER / "labels.json").read_text(encoding="utf-8"))
    return tuple(
        Probe(
            name=name,
            title=fields["title"],
            domain=fields["domain"],
            metric="accuracy",
            context=fields["context"],
            examples=tuple(_example(*row) for row in fields["examples"]),
        )
        for name, fields in described.items()
    )


def _example(file: str, start: float, end: float, label: str, split: str) -> Example:
    """A row of ``labels.json``."""
    return Example(file, start, end, label, test=split == "test")


@cache
def _audio(file: str) -> Tensor:
    """The samples of `file`, fp32; 16 kHz mono."""
    import soundfile
    import torch

    samples, rate = soundfile.read(FOLDER / file, dtype="float32")
    if rate != RATE or samples.ndim != 1:
        raise ValueError(f"{file}: the probes' clips are 16 kHz mono, this one has {rate} Hz")
    return torch.from_numpy(samples)


def _hidden_states(model: HubertModel, audio: Tensor) -> Tensor:
    """(n, layers + 1, frames, width) of `audio` (n, samples), each row first scaled to mean 0, variance 1."""
    import torch

    centred = audio - audio.mean(dim=1, keepdim=True)
    scaled = centred / (centred.square().mean(dim=1, keepdim=True) + 1e-7).sqrt()
    output = model(scaled.to(model.device, model.dtype), output_hidden_states=True)
    return torch.stack(output.hidden_states, dim=1).float().cpu()


def _features(model: HubertModel, context: str, extents: list[Extent]) -> dict[Extent, Tensor]:
    """(layers + 1, width) for each extent: the hidden states averaged over its frames."""
    import torch

    with torch.inference_mode():
        return (_in_files if context == "file" else _alone)(model, extents)


def _in_files(model: HubertModel, extents: list[Extent]) -> dict[Extent, Tensor]:
    """Each file is encoded whole; a frame belongs to the extent that holds its centre, and one at least does."""
    pooled: dict[Extent, Tensor] = {}
    for file in dict.fromkeys(extent[0] for extent in extents):
        states = _hidden_states(model, _audio(file)[None])[0]
        frames = states.shape[1]
        for extent in (e for e in extents if e[0] == file):
            first, last = (round((second * RATE - CENTRE) / STRIDE) for second in extent[1:])
            first = min(max(first, 0), frames - 1)
            pooled[extent] = states[:, first : max(last, first + 1)].mean(dim=1)
    return pooled


def _alone(model: HubertModel, extents: list[Extent]) -> dict[Extent, Tensor]:
    """Each extent is cut out and encoded by itself; extents of one length go through together."""
    import torch

    by_length: dict[int, list[Extent]] = {}
    for extent in extents:
        by_length.setdefault(round((extent[2] - extent[1]) * RATE), []).append(extent)
    pooled: dict[Extent, Tensor] = {}
    for length, group in by_length.items():
        for start in range(0, len(group), BATCH):
            batch = group[start : start + BATCH]
            cuts = [_audio(file)[round(begin * RATE) :][:length] for file, begin, _ in batch]
            states = _hidden_states(model, torch.stack(cuts)).mean(dim=2)
            pooled |= dict(zip(batch, states, strict=True))
    return pooled


def _fit_and_test(probe: Probe, features: dict[Extent, Tensor]) -> float:
    """Fit the head on the training examples, return its accuracy on the test examples."""
    import torch

    number = {label: index for index, label in enumerate(probe.classes)}
    inputs = torch.stack([features[e.file, e.start, e.end] for e in probe.examples])
    labels = torch.tensor([number[e.label] for e in probe.examples])
    test = torch.tensor([e.test for e in probe.examples])
    mean, deviation = inputs[~test].mean(dim=0), inputs[~test].std(dim=0) + 1e-5
    inputs = ((inputs - mean) / deviation).clone()
    logits = mixed_logits(inputs[test], *fit_head(inputs[~test], labels[~test], len(number)))
    return float((logits.argmax(dim=1) == labels[test]).float().mean())


def mixed_logits(inputs: Tensor, mixture: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """W · (Σ softmax(mixture)[l] · inputs[:, l]) + b."""
    import torch

    return torch.einsum("l,nlc->nc", mixture.softmax(dim=0), inputs) @ weight.T + bias


def fit_head(inputs: Tensor, labels: Tensor, classes: int, iterations: int = 100) -> tuple[Tensor, Tensor, Tensor]:
    """(mixture, W, b) from zero by L-BFGS on cross-entropy + 1e-3 · |W|² / 2; no randomness enters.

    `inputs` (examples, layers + 1, width), `labels` (examples,) in [0, classes).
    """
    import torch

    mixture = torch.zeros(inputs.shape[1], requires_grad=True)
    weight = torch.zeros(classes, inputs.shape[2], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    solver = torch.optim.LBFGS((mixture, weight, bias), max_iter=iterations, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        solver.zero_grad()
        logits = mixed_logits(inputs, mixture, weight, bias)
        loss = torch.nn.functional.cross_entropy(logits, labels) + 5e-4 * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    solver.step(objective)  # type: ignore[no-untyped-call]
    return mixture.detach(), weight.detach(), bias.detach()
