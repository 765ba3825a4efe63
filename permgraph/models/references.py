"""Resolves what a user typed for a model or for data: a folder, a hub id, a function."""

import importlib
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from permgraph.checkpoints.foreign import require_own_kind
from permgraph.checkpoints.weight_files import READERS
from permgraph.errors import CheckpointError
from permgraph.wording import described

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
HUB_SECONDS = 5.0
HUB_FILES = ["*.json", "*.txt", "*.model", "*.tiktoken", "*.jinja", "README.md"]


def find_folder(reference: str, *, weights: bool = True) -> Path:
    """The local folder with the `config.json` that `reference` names, downloaded where it is an id on a reachable hub.

    Raises CheckpointError saying what was found instead, or that the hub cannot be reached or does not have it.
    """
    path = Path(reference or "no name").expanduser()
    if path.is_file():
        if path.suffix not in READERS:
            raise CheckpointError(f"{reference}: is a file that holds no weights. Give the folder of a model.")
        raise CheckpointError(
            f"{reference}: is a file of weights. Give the folder that holds it, with its config.json; or, to align, "
            "merge or compare, also the model that they are of, with --model python:package.module:function or "
            "--model timm:NAME. Other commands read no weights: give them that model instead of the file."
        )
    if path.is_dir():
        require_own_kind(path)
        if not (path / "config.json").is_file():
            raise CheckpointError(
                f"{reference}: has no config.json. Give a folder that `save_pretrained` wrote, or the model as "
                "python:package.module:function."
            )
        return path
    if not HUB_ID.fullmatch(reference):
        raise CheckpointError(
            f"{reference}: no such folder, and not the form of a hub id (owner/name). Check the path."
        )
    return _from_hub(reference, weights=weights)


def _from_hub(reference: str, *, weights: bool) -> Path:
    try:
        import huggingface_hub as hub
    except ImportError as error:
        raise CheckpointError(
            f"{reference}: no such folder here, and hub ids need huggingface_hub: pip install 'permgraph[hub]'."
        ) from error
    try:
        names = [item.rfilename for item in hub.HfApi().model_info(reference, timeout=HUB_SECONDS).siblings or ()]
        pattern = "*.safetensors" if any(name.endswith(".safetensors") for name in names) else "pytorch_model*.bin"
        wanted = [*HUB_FILES, *([pattern] if weights else [])]
        return Path(hub.snapshot_download(reference, allow_patterns=wanted, etag_timeout=HUB_SECONDS))
    except Exception as error:  # the hub's client raises its own, its transport's and the system's
        return _cached(reference, error)


def _cached(reference: str, why: Exception) -> Path:
    import huggingface_hub as hub

    try:
        folder = Path(hub.snapshot_download(reference, local_files_only=True))
        if (folder / "config.json").is_file():
            return folder
    except Exception:  # not cached: the first error says more
        pass
    raise CheckpointError(
        f"{reference}: no such folder here, and the hub did not give it ({described(why)}). "
        "Check the spelling, or download the model where there is a network and give its folder."
    ) from why


def call_python(target: str) -> tuple[nn.Module, tuple[Any, ...], dict[str, Any]]:
    """The `(model, args, kwargs)` that `package.module:function` returns; the working directory is searched too.

    Of args and kwargs one may be left out, and a tensor is the one argument.

    Raises CheckpointError where there is no such module or function, where it raises, or returns something else.
    """
    result = run_python(target)
    match result:
        case (nn.Module() as model, tuple() as args, dict() as kwargs):
            return model, args, kwargs
        case (nn.Module() as model, tuple() as args):
            return model, args, {}
        case (nn.Module() as model, dict() as kwargs):
            return model, (), kwargs
        case (nn.Module() as model, Tensor() as only):
            return model, (only,), {}
    parts = result if isinstance(result, tuple) else (result,)
    got = ", ".join(type(part).__name__ for part in parts)
    raise CheckpointError(
        f"python:{target}: returned ({got}), not (model, args, kwargs): an nn.Module, a tuple and a dict. Return these."
    )


def run_python(target: str) -> Any:
    """What `package.module:function` returns. Raises CheckpointError as `find_function` does, and where it raises."""
    function = find_function(target)
    try:
        with importing_from_here():
            return function()
    except Exception as error:  # whatever the user's code raises
        raise CheckpointError(
            f"python:{target}: {described(error)}. The function must take no arguments, and run from here."
        ) from error


def find_function(target: str) -> Any:
    """The `function` of `package.module:function`; the working directory is searched too.

    Raises CheckpointError where there is no such module or function.
    """
    module_name, _, function_name = target.partition(":")
    where = f"python:{target}"
    if not module_name or not function_name:
        raise CheckpointError(f"{where}: is not of the form python:package.module:function. Write both names.")
    try:
        with importing_from_here():
            return getattr(importlib.import_module(module_name), function_name)
    except Exception as error:  # whatever the user's code raises
        raise CheckpointError(
            f"{where}: {described(error)}. The module must be importable from here, and have the function."
        ) from error


@contextmanager
def importing_from_here() -> Iterator[None]:
    """Modules in the working directory can be imported, as in a script of that folder."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
