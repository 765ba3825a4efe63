"""Several forward passes of one model as one, for models of which no single pass reaches every parameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from permgraph.errors import CaptureError

PREFIX = "model."


class Forwards(nn.Module):
    """Calls methods of a model, each with its own input, and returns the tuple of their results.

    `Forwards(clip, "get_image_features", "get_text_features")(image, ids)` is `(clip.get_image_features(image),
    clip.get_text_features(ids))`. Each input is a tensor, a tuple of positional or a dict of keyword inputs. The
    derived group leaves all of these passes unchanged. The state dict is the model's, key for key, so `derive`,
    `verify`, `align` and `merge` take it in place of the model; its mode is the model's.

    Raises CaptureError for a name that is no method of the model.
    """

    def __init__(self, model: nn.Module, *methods: str) -> None:
        super().__init__()
        missing = [name for name in methods if not callable(getattr(model, name, None))]
        if missing or not methods:
            raise CaptureError(
                f"{type(model).__name__} has no method {missing[0]!r}"
                if missing
                else "name at least one method to call"
            )
        self.model, self.methods = model, methods
        self.training = model.training

    def forward(self, *inputs: Any) -> tuple[Any, ...]:
        """One input for each method."""
        if len(inputs) != len(self.methods):
            raise TypeError(f"{len(self.methods)} methods are called, and {len(inputs)} inputs given")
        return tuple(_call(getattr(self.model, name), given) for name, given in zip(self.methods, inputs, strict=True))

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The state dict of the model."""
        return self.model.state_dict(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Load a state dict into the model."""
        return self.model.load_state_dict(*args, **kwargs)


def _call(method: Any, given: Any) -> Any:
    if isinstance(given, Tensor):
        return method(given)
    return method(**given) if isinstance(given, Mapping) else method(*given)
