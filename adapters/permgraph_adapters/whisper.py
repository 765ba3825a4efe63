"""Whisper: log-mel spectrograms in, tokens out; what its decoder is given is what the model itself hears."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from permgraph.errors import CalibrationError
from permgraph_adapters.native import NativeAdapter

if TYPE_CHECKING:
    from torch import Tensor

HEARD = 24


class WhisperAdapter(NativeAdapter):
    """Calibration pairs each spectrogram with the first tokens that A writes for it, since recordings bring no text."""

    model_types = ("whisper",)

    def calibration(
        self, data: Path, *, model: Any, folder: Path | None, **options: Any
    ) -> Iterable[dict[str, "Tensor"]]:
        """Windows of 30 s as log-mel spectrograms, and up to 24 tokens that `model` writes for each, greedily.

        Where all clips together fill no window, each is one, and the feature extractor adds silence.
        """
        from permgraph.data.batches import Batches
        from permgraph.data.calibration import sound_batches

        if folder is None:
            raise CalibrationError(f"{data}: a Whisper made by code has no feature extractor. Give it as a folder.")
        sounds = sound_batches(data, model=model, folder=folder, **options)

        def make(numbers: list[Any]) -> dict[str, "Tensor"]:
            batch = sounds.make(numbers)
            frames, wanted = batch["input_features"].shape[-1], 2 * model.config.max_source_positions
            if frames != wanted:
                raise CalibrationError(
                    f"{folder}: its feature extractor makes {frames} frames of a window, and the model takes {wanted}. "
                    "Set chunk_length in preprocessor_config.json."
                )
            return {**batch, "decoder_input_ids": heard(model, batch["input_features"])}

        return Batches(sounds.samples, make, sounds.batch_size, unit=sounds.unit, notes=lambda: sounds.notes)


def heard(model: Any, features: "Tensor", most: int = HEARD) -> "Tensor":
    """The start token and what follows by greedy decoding: [batch, length], as long as the decoder has positions."""
    import torch

    base = getattr(model, "model", model)
    table = base.decoder.embed_tokens.weight
    ids = torch.full((len(features), 1), model.config.decoder_start_token_id, device=table.device)
    with torch.no_grad():
        sound = base.encoder(features.to(table)).last_hidden_state
        while ids.shape[1] < min(most, model.config.max_target_positions):
            stream = base.decoder(input_ids=ids, encoder_hidden_states=sound, use_cache=False).last_hidden_state
            ids = torch.cat([ids, (stream[:, -1:] @ table.T).argmax(-1)], dim=1)
    return ids
