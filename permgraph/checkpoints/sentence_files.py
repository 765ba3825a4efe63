"""How token vectors become one vector of a text, in a folder of sentence-transformers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from permgraph.checkpoints.json_files import parse_json, read_json, unreadable

MODULES = "modules.json"
BESIDE = ("config_sentence_transformers.json", "sentence_bert_config.json")
PACKAGE = "sentence_transformers."
WEIGHTS = ("*.safetensors", "*.bin", "*.pt")


def copy_sentence_files(source: Path, folder: Path) -> None:
    """Copy the configs of pooling and normalisation; nothing where a module has weights of its own or foreign code.

    Weights behind the pooling read the order of the transformer's units, which the merged one may not have.
    """
    modules = _modules(source)
    if not modules or any(sentence_weights(source)) or not all(_is_plain(one) for one in modules):
        return
    for name in (MODULES, *BESIDE):
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    for one in modules:
        inner = str(one["path"])
        if inner:
            (folder / inner).mkdir(exist_ok=True)
            if (source / inner / "config.json").is_file():
                shutil.copyfile(source / inner / "config.json", folder / inner / "config.json")


def sentence_weights(folder: Path | None) -> list[str]:
    """The modules behind the transformer that have weights of their own, which are neither matched nor merged."""
    found = [] if folder is None else [str(one.get("path", "")) for one in _modules(folder)]
    return [inner for inner in found if inner and any(any((folder or Path()).joinpath(inner).glob(p)) for p in WEIGHTS)]


def pooling_of(folder: Path | None) -> dict[str, Any]:
    """Module -> its config, of all behind the transformer; {} where there are none."""
    inner = [] if folder is None else [str(one.get("path", "")) for one in _modules(folder)]
    found = {name: (folder or Path()) / name / "config.json" for name in inner if name}
    return {name: read_json(path) if path.is_file() else {} for name, path in found.items()}


def _modules(folder: Path) -> list[dict[str, Any]]:
    path = folder / MODULES
    if not path.is_file():
        return []
    try:
        value = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _is_plain(module: dict[str, Any]) -> bool:
    """Whether a module is the package's own and in a folder directly below."""
    path = str(module.get("path", ""))
    return str(module.get("type", "")).startswith(PACKAGE) and path not in (".", "..") and Path(path).name == path
