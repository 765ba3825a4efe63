"""What the encoders learn: HuBERT's masked prediction of clusters, and MERT's reconstruction of a spectrum.

HuBERT: arXiv 2106.07447, section II. MERT: arXiv 2306.00107, section 3 (an acoustic and a musical teacher; the
musical one a constant-Q spectrum). Here semitone bands stand for the constant-Q spectrum, and the timbre is
reconstructed beside them, where MERT's acoustic teacher has many more codes than 128 clusters: `features.spectrum`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from transformers import HubertConfig, HubertModel

from benchmarks.speech_music.features import CLUSTERS
from benchmarks.speech_music.streams import Batch

TEMPERATURE = 0.1


class MaskedPredictor(nn.Module):
    """The encoder; for each label stream a projection A and an embedding e_c per cluster; a linear map to the bands."""

    def __init__(self, config: HubertConfig, streams: int, bands: int = 0, width: int = 64) -> None:
        super().__init__()
        self.encoder = HubertModel(config)
        self.projections = nn.ModuleList(nn.Linear(config.hidden_size, width) for _ in range(streams))
        self.embeddings = nn.Parameter(torch.randn(streams, CLUSTERS, width))
        self.reconstruction = nn.Linear(config.hidden_size, bands) if bands else None

    def forward(self, audio: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits (streams, n, frames, clusters), cos(A o_t, e_c) / 0.1; and the spectrum (n, frames, bands)."""
        hidden = self.encoder(audio, mask_time_indices=mask).last_hidden_state
        outputs = torch.stack([projection(hidden) for projection in self.projections])
        codes = normalize(self.embeddings, dim=-1)[:, None]
        logits = normalize(outputs, dim=-1) @ codes.transpose(-1, -2) / TEMPERATURE
        return logits, None if self.reconstruction is None else self.reconstruction(hidden)


def masked_loss(
    logits: Tensor, bands: Tensor | None, batch: Batch, alpha: float, share: float = 1.0
) -> tuple[Tensor, Tensor]:
    """(loss, accuracy on masked frames for each stream).

    alpha · L(masked) + (1 - alpha) · L(the others), L the cross-entropy averaged over streams + share · the squared
    error of `bands` over the variance that the spectrum has in this batch: 1 is as good as its mean.
    """
    labels = batch.labels.permute(2, 0, 1)
    frames = cross_entropy(logits.flatten(0, 2), labels.flatten(), reduction="none").view(labels.shape).mean(0)
    if bands is not None:
        variance = batch.spectrum.flatten(0, 1).var(dim=0).mean() + 1e-6
        frames = frames + share * (bands - batch.spectrum).square().mean(-1) / variance
    loss = alpha * frames[batch.mask].mean() + (1 - alpha) * frames[~batch.mask].mean()
    hits = (logits.argmax(-1) == labels)[:, batch.mask].float().mean(1)
    return loss, hits.detach()
