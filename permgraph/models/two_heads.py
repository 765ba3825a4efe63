"""A merged model with two heads on one trunk, as `permgraph merge --heads both` writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from permgraph.checkpoints.json_files import json_object
from permgraph.checkpoints.open_file import OpenFile
from permgraph.checkpoints.safetensors_files import read_safetensors
from permgraph.checkpoints.writing import SECOND_CONFIG, SECOND_HEAD
from permgraph.errors import CheckpointError
from permgraph.models.transformers_models import base_prefix


class TwoHeads(nn.Module):
    """x -> (first(x), second(x)): the first model, and the second model's head on the same trunk.

    `first` and `second` are models of the classes that were merged; the parameters of the trunk are the same objects
    in both. The folder by itself is the first model, which `AutoModel.from_pretrained` and its own class load.
    """

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first = first
        self.second = second

    @classmethod
    def from_pretrained(cls, folder: Path | str, **options: Any) -> TwoHeads:
        """The two models in a folder that `merge --heads both` wrote; `options` are those of transformers.

        Raises CheckpointError for a folder without a second head.
        """
        place = Path(folder)
        if not all((place / name).is_file() for name in (SECOND_HEAD, SECOND_CONFIG)):
            raise CheckpointError(
                f"{folder}: has {SECOND_CONFIG} but no {SECOND_HEAD}. Give a folder that `permgraph merge --heads "
                "both` wrote of two transformers models."
            )
        kinds = [_class_in(place / name) for name in ("config.json", SECOND_CONFIG)]
        head = read_safetensors(OpenFile(place / SECOND_HEAD))
        first = kinds[0].from_pretrained(place, **options).eval()
        second = kinds[1](kinds[1].config_class.from_json_file(place / SECOND_CONFIG)).eval()
        _put(second, first, {name: stored.read() for name, stored in head.tensors.items()})
        return cls(first, second)

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """What both models return."""
        return self.first(*args, **kwargs), self.second(*args, **kwargs)


def _class_in(path: Path) -> Any:
    """The class of transformers that a config names; no other code is run."""
    import transformers

    file = OpenFile(path)
    named = json_object(file.path, file.read(0, file.size)).get("architectures")
    kind = getattr(transformers, str(named[0]), None) if isinstance(named, list) and named else None
    if not (isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)):
        raise CheckpointError(f"{path}: `architectures` names no model of transformers. Correct that field.")
    return kind


def _put(second: nn.Module, first: nn.Module, head: dict[str, Tensor]) -> None:
    """Give `second` its head, and for all else the very parameters of `first`."""
    mine, theirs = (f"{prefix}." if (prefix := base_prefix(model)) else "" for model in (first, second))
    trunk = first.state_dict(keep_vars=True)
    state: dict[str, Tensor] = {}
    for name in second.state_dict():
        shared = trunk.get(f"{mine}{name.removeprefix(theirs)}")
        if name in head:
            state[name] = head[name] if shared is None else head[name].to(shared.device)
        elif shared is not None:
            state[name] = shared
    second.load_state_dict(state, strict=False, assign=True)
    second.tie_weights()  # type: ignore[operator]
