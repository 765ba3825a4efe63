"""The model card (README.md) of a merged checkpoint."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

LOADING = {
    "transformers": "from {home} import {kind}\n\nmodel = {kind}.from_pretrained({title!r})",
    "": (
        "from safetensors.torch import load_model\n\n"
        "load_model(model, {weights!r})  # a model made by the code of the first one"
    ),
    "diffusers": "from diffusers import {kind}\n\nmodel = {kind}.from_pretrained({title!r})",
    "timm": 'import timm\n\nmodel = timm.create_model("local-dir:{title}", pretrained=True)',
}
SECOND = {
    "transformers": (
        "import permgraph\n\nboth = permgraph.TwoHeads.from_pretrained({title!r})\n"
        "a, b = both.first, both.second  # one trunk, two heads"
    ),
    "": (
        "from safetensors.torch import load_file\n\n"
        "trunk, head = load_file({title!r} + '/model.safetensors'), load_file({title!r} + '/second_head.safetensors')\n"
        "model_b.load_state_dict(trunk | head, strict=False)  # a model made by the code of the second one"
    ),
}
MADE = ("python:", "timm:")
"""What a model that code makes is called by; no id on a hub."""
LICENCE = ("license", "license_name", "license_link")


def model_card(
    title: str,
    base_models: Sequence[str],
    *,
    library: str = "",
    architecture: str = "",
    home: str = "transformers",
    licence: Mapping[str, str] | None = None,
    summary: str = "",
) -> str:
    """Markdown with the hub's front matter: `base_model` and its relation, `tags`, `library_name`, `license`.

    For a base model given by a folder, only the folder's name is written, not its path. `home`: the module that
    `architecture` is imported from, or "".
    """
    names = [public_name(model) for model in base_models]
    known = [name for name in names if not name.startswith(MADE)]
    base = ["base_model:", *(f"- {json.dumps(name)}" for name in known), "base_model_relation: merge"] if known else []
    fields = [f"{name}: {json.dumps(value)}" for name, value in (licence or {}).items()]
    fields += [f"library_name: {library}"] if library else []
    front = ["---", *base, "tags:", "- merge", "- permgraph", *fields, "---"]
    origin = f"Merged from {', '.join(f'`{name}`' for name in names)} with permgraph.\n\n" if names else ""
    code = LOADING[library if home else ""]
    code = code.format(title=title, weights=f"{title}/model.safetensors", kind=architecture or "AutoModel", home=home)
    load = f"```python\n{code}\n```\n\n"
    return (
        "\n".join(front)
        + f"\n\n# {title}\n\n{origin}"
        + (f"{summary.strip()}\n\n" if summary.strip() else "")
        + load
        + "`permgraph.json` has the permutations, the method, the seeds, the hashes of the inputs and the proof that\n"
        "every permutation left the function of the model unchanged.\n"
    )


def home_of(kind: type) -> str:
    """The module to import a model's class from: transformers for its own; "" for a class of the script that runs."""
    module = kind.__module__
    return "" if module == "__main__" else "transformers" if module.startswith("transformers.") else module


def second_section(title: str, library: str) -> str:
    """Markdown that says how to load the second model's head on the merged trunk."""
    code = (SECOND.get(library) or SECOND[""]).format(title=title)
    return f"\n## The head of the second model\n\n```python\n{code}\n```\n"


def shared_licence(folders: Iterable[Path | None]) -> dict[str, str]:
    """The licence fields of the cards in these folders if all of them agree, else nothing."""
    found = [_licence(folder) for folder in folders]
    return found[0] if found and found[0] and all(other == found[0] for other in found) else {}


def _licence(folder: Path | None) -> dict[str, str]:
    card = None if folder is None else folder / "README.md"
    if card is None or not card.is_file():
        return {}
    try:
        text = card.read_text(encoding="utf-8", errors="replace")
    except OSError:  # a card that may not be read says nothing
        return {}
    front = text.split("---", 2)[1] if text.startswith("---") and text.count("---") > 1 else ""
    pairs = (line.partition(":") for line in front.splitlines())
    return {name: value.strip().strip("'\"") for name, _, value in pairs if name in LICENCE and value.strip()}


def public_name(reference: str) -> str:
    """A reference without a path of this machine: the name of a folder, anything else unchanged."""
    path = Path(reference).expanduser()
    is_path = path.exists() or path.is_absolute() or reference.startswith(("./", "../", "~"))
    return path.resolve().name if is_path else reference
