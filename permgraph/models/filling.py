"""Weights from files put into a model that code made."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from permgraph.checkpoints.reading import Checkpoint, require_finite
from permgraph.errors import CheckpointError
from permgraph.models.names import Fitted, fitted, why_left_out
from permgraph.models.stored_weights import StoredWeights, as_stored, require_numbers
from permgraph.wording import few


def fill(model: nn.Module, checkpoint: Checkpoint, what: str) -> StoredWeights:
    """Load the weights of `checkpoint` into `model`, called `what`; its own are replaced.

    Prefixes and wrappers are removed from the names, buffers and moving averages left out. Raises CheckpointError for
    weights that do not fit, by name.
    """
    own = model.state_dict()
    found = _fitted(checkpoint, own)
    names = {name: stored for name, stored in found.names.items() if name in own}
    over = {stored: why_left_out(name, own, what) for name, stored in found.names.items() if name not in own}
    _require_fit(checkpoint, names, own, [name for name, why in over.items() if not why], what)
    require_numbers(checkpoint, names, own, what)
    state = {name: checkpoint[stored] for name, stored in names.items()}
    require_finite(state, checkpoint.folder)
    model.load_state_dict(state)
    return as_stored(
        model.state_dict(), checkpoint, names, checkpoint.left_out | dict(found.left_out) | over, found.prefix
    )


def shapes_for(model: nn.Module, checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
    """The shapes of the weights in the files, by the model's names."""
    names = _fitted(checkpoint, model.state_dict()).names
    return {name: tuple(checkpoint.info[stored].shape) for name, stored in names.items()}


def _fitted(checkpoint: Checkpoint, own: Mapping[str, object]) -> Fitted:
    try:
        return fitted(checkpoint, own.keys())
    except CheckpointError as error:
        raise CheckpointError(f"{checkpoint.folder}: {error}") from error


def _require_fit(
    checkpoint: Checkpoint, names: Mapping[str, str], own: Mapping[str, Tensor], over: list[str], what: str
) -> None:
    shapes = {name: checkpoint.info[stored].shape for name, stored in names.items()}
    differ = [
        f"{name} (file {list(shapes[name])}, {what} {list(tensor.shape)})"
        for name, tensor in own.items()
        if name in shapes and shapes[name] != tuple(tensor.shape)
    ]
    wrong = {
        "of another shape": differ,
        "missing from the files": [name for name in own if name not in names],
        f"not in {what}": over,
    }
    found = "; ".join(f"{how}: {few(some)}" for how, some in wrong.items() if some)
    if found:
        raise CheckpointError(
            f"{checkpoint.folder}: the weights do not fit {what}: {found}. Use the config or code, and the weights, of "
            "one model."
        )
