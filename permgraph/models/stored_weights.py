"""How a model's weights were stored: dtypes, shards, names, and what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from permgraph.checkpoints.lazy_state import memory_of
from permgraph.checkpoints.reading import DIFFUSERS, Checkpoint
from permgraph.checkpoints.sharding import MAX_SHARD_BYTES, Storage
from permgraph.errors import CheckpointError
from permgraph.models.saved_form import SavedForm
from permgraph.wording import few

MOST_TIMES, FREE = 3, 1_000_000
"""By how many elements a model may exceed its files: buffers are computed, and missing weights are reported later."""
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class StoredWeights:
    """How a model's weights were stored, by the names of its state dict, and of its saved form where that is another.

    `names`: those with another name in the files. `shards`: the file of each. `left_out`: what the files hold and the
    model does not take, with the reason. `saved`: the form of the files, None where it is that of the state dict.
    """

    dtypes: Mapping[str, torch.dtype]
    names: Mapping[str, str] = field(default_factory=dict)
    shards: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    prefix: str = ""
    saved: SavedForm | None = None

    def in_saved_form(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The tensors of a state dict as the files have them."""
        return state if self.saved is None else self.saved.of(state)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of most tensors that are floating point."""
        counts = Counter(dtype for dtype in self.dtypes.values() if dtype.is_floating_point)
        return counts.most_common(1)[0][0] if counts else torch.float32

    def storage(self, dtype: torch.dtype | None = None, max_shard_bytes: int | None = None) -> Storage:
        """How weights are written in the form of these; or all as `dtype`, or in files of so many bytes."""
        return Storage(
            dtypes=self.dtypes if dtype is None else {},
            default=dtype or self.dtype,
            shards=self.shards if max_shard_bytes is None else {},
            max_shard_bytes=max_shard_bytes or MAX_SHARD_BYTES,
            stem=DIFFUSERS if any(name.startswith(DIFFUSERS) for name in self.shards.values()) else "model",
        )


def as_given(model: nn.Module) -> StoredWeights:
    """The storage of a model that code made: its own dtypes."""
    return StoredWeights({name: tensor.dtype for name, tensor in model.state_dict().items()})


def as_stored(
    state: Mapping[str, Tensor],
    checkpoint: Checkpoint,
    names: Mapping[str, str],
    left_out: Mapping[str, str],
    prefix: str = "",
) -> StoredWeights:
    """The storage of a model that was loaded from a checkpoint, `names`: model's name -> stored name.

    A tensor without a name in the files takes the dtype of the tensor that it is tied to, else that of most tensors.
    """
    found = {name: names[name] for name in state if name in names}
    tied = {memory_of(state[name]): stored for name, stored in found.items()}
    found |= {name: tied[memory_of(t)] for name, t in state.items() if name not in found and memory_of(t) in tied}
    known = StoredWeights({name: checkpoint.info[stored].dtype for name, stored in found.items()})
    most = known.dtype
    dtypes = {
        name: known.dtypes.get(name, most if tensor.is_floating_point() else tensor.dtype)
        for name, tensor in state.items()
    }
    shards = {name: checkpoint.info[stored].file.name for name, stored in found.items()}
    renamed = {name: stored for name, stored in found.items() if stored != name and name in names}
    return StoredWeights(dtypes, renamed, shards, left_out, prefix)


def in_form(stored: StoredWeights, saved: SavedForm, checkpoint: Checkpoint, names: Mapping[str, str]) -> StoredWeights:
    """The same with another form of the tensors, whose `names` -> stored names are those of `checkpoint`."""
    info = {name: checkpoint.info[names[name]] for name in saved.origins if name in names}
    return replace(
        stored,
        saved=saved,
        dtypes={**stored.dtypes, **{name: one.dtype for name, one in info.items()}},
        shards={**stored.shards, **{name: one.file.name for name, one in info.items()}},
    )


def require_numbers(checkpoint: Checkpoint, names: Mapping[str, str], wanted: Mapping[str, Tensor], what: str) -> None:
    """Raise CheckpointError for weights that are floating point in the model and stored as anything else, by name."""
    wrong: dict[torch.dtype, list[str]] = {}
    for name, tensor in wanted.items():
        stored = checkpoint.info.get(names.get(name, ""))
        if stored is not None and tensor.is_floating_point() and stored.dtype not in FLOATS:
            wrong.setdefault(stored.dtype, []).append(names[name])
    if wrong:
        found = "; ".join(f"{str(dtype).removeprefix('torch.')}: {few(some)}" for dtype, some in wrong.items())
        raise CheckpointError(
            f"{checkpoint.folder}: weights of {what} that are not stored as floating point ({found}). They are "
            "quantized, or of another kind: convert the checkpoint to float16, bfloat16 or float32 first."
        )


def require_size(checkpoint: Checkpoint, wanted: Iterable[Tensor], what: str) -> None:
    """Raise CheckpointError for a model far larger than its files, before memory is taken for it."""
    unique = {id(tensor): tensor.numel() for tensor in wanted}
    needed, stored = sum(unique.values()), sum(torch.Size(info.shape).numel() for info in checkpoint.info.values())
    if needed > MOST_TIMES * stored + FREE:
        raise CheckpointError(
            f"{checkpoint.folder}: config.json describes a {what} of {needed:,} numbers, and the files hold "
            f"{stored:,}. config.json and the weights must be of one model."
        )
