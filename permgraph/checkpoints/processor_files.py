"""Copies the files of tokenizers and processors from a checkpoint into an output: known names, only data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from permgraph.checkpoints.json_files import read_json
from permgraph.checkpoints.sentence_files import copy_sentence_files

KNOWN = (
    "preprocessor_config.json", "processor_config.json", "feature_extractor_config.json",
    "video_preprocessor_config.json", "image_processor_config.json", "tokenizer*.json", "tokenizer*.model*",
    "special_tokens_map.json", "added_tokens.json", "vocab*.json", "vocab*.txt", "vocab.bpe", "merges.txt",
    "normalizer.json", "sentencepiece*.model", "spiece.model", "spm.model", "source.spm", "target.spm", "bpe.codes",
    "dict.txt", "encoder.json", "entity_vocab.json", "tekken.json", "*.tiktoken", "chat_template.jinja",
    "chat_template.json", "generation_config.json",
)  # fmt: skip
CODE = "auto_map"
"""The field of a config that names Python files in its folder."""


def copy_processor(source: Path, folder: Path) -> None:
    """Copy the known files of `source` to `folder`, without what leads to code or out of it.

    A link is followed only where it stays in its folder, or in the cache of the hub's client, which is made of links.
    Python files are never copied, and no copied config names one. Raises CheckpointError for a broken config.
    """
    for path in sorted({path for pattern in KNOWN for path in source.glob(pattern)}):
        if not path.is_file() or path.suffix == ".py" or not _stays(path, source):
            continue
        if path.name.endswith("config.json") and CODE in (fields := read_json(path)):
            del fields[CODE]
            (folder / path.name).write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
        else:
            shutil.copyfile(path, folder / path.name)
    copy_sentence_files(source, folder)


def _stays(path: Path, source: Path) -> bool:
    target, home = path.resolve(), source.resolve()
    cached = home.parent.name == "snapshots" and (home.parent.parent / "blobs") in target.parents
    return home in target.parents or cached
