"""What the encoders learn: HuBERT's masked prediction of clusters, and MERT's reconstruction of the notes.

HuBERT: arXiv 2106.07447, section II. MERT: arXiv 2306.00107, section 3 (an acoustic and a musical teacher; the
musical one a constant-Q spectrum, here the semitone bands of `features.semitones`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss, normalize
from transformers import HubertConfig, HubertModel

from benchmarks.speech_music.features import CLUSTERS
from benchmarks.speech_music.streams import Batch

TEMPERATURE = 0.1


class MaskedPredictor(nn.Module):
    """The encoder; for each label stream a projection A and an embedding e_c per cluster; a linear map to the notes."""

    def __init__(self, config: HubertConfig, streams: int, notes: int = 0, width: int = 64) -> None:
        super().__init__()
        self.encoder = HubertModel(config)
        self.projections = nn.ModuleList(nn.Linear(config.hidden_size, width) for _ in range(streams))
        self.embeddings = nn.Parameter(torch.randn(streams, CLUSTERS, width))
        self.reconstruction = nn.Linear(config.hidden_size, notes) if notes else None

    def forward(self, audio: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits (streams, n, frames, clusters), cos(A o_t, e_c) / 0.1; and the notes (n, frames, semitones)."""
        hidden = self.encoder(audio, mask_time_indices=mask).last_hidden_state
        outputs = torch.stack([projection(hidden) for projection in self.projections])
        codes = normalize(self.embeddings, dim=-1)[:, None]
        logits = normalize(outputs, dim=-1) @ codes.transpose(-1, -2) / TEMPERATURE
        return logits, None if self.reconstruction is None else self.reconstruction(hidden)


def masked_loss(
    logits: Tensor, notes: Tensor | None, batch: Batch, alpha: float, share: float = 1.0
) -> tuple[Tensor, Tensor]:
    """(loss, accuracy on masked frames for each stream).

    alpha CE(masked) + (1 - alpha) CE(the others), averaged over streams, + share · MSE(notes on masked frames) over
    the variance that these notes have: 1 is as good as their mean.
    """
    labels = batch.labels.permute(2, 0, 1)
    entropy = cross_entropy(logits.flatten(0, 2), labels.flatten(), reduction="none").view(labels.shape)
    loss = alpha * entropy[:, batch.mask].mean() + (1 - alpha) * entropy[:, ~batch.mask].mean()
    if notes is not None:
        wanted = batch.notes[batch.mask]
        loss = loss + share * mse_loss(notes[batch.mask], wanted) / (wanted.var(dim=0).mean() + 1e-6)
    hits = (logits.argmax(-1) == labels)[:, batch.mask].float().mean(1)
    return loss, hits.detach()
