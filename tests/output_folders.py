"""Small output folders as permgraph writes them, for the tests of what is replaced and what stays."""

import json

from permgraph.checkpoints.folders import whole_folder


def written(folder, text="new", **options):
    with whole_folder(folder, **options) as partial:
        (partial / "config.json").write_text(json.dumps(text))
        (partial / "weights").mkdir()
        (partial / "weights" / "w").write_text(text)
    return folder


def content(folder):
    return (folder / "weights" / "w").read_text()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


WHOLE = ["config.json", "permgraph.json", "weights"]


def ours(folder):
    written(folder, "old")


def full(folder):
    folder.mkdir(exist_ok=True)
    (folder / "precious").write_text("mine")
