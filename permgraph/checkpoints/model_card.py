"""The model card (README.md) of a merged checkpoint."""

import json
from collections.abc import Sequence
from pathlib import Path


def model_card(title: str, base_models: Sequence[str], *, transformers: bool, summary: str = "") -> str:
    """Markdown with YAML front matter: `base_model`, `tags`, and `library_name` where transformers loads the folder.

    Of a base model given by folder only the folder's name is written, never where it lies.
    """
    names = [public_name(model) for model in base_models]
    front = ["---", *(["base_model:", *(f"- {json.dumps(name)}" for name in names)] if names else [])]
    front += ["tags:", "- merge", "- permgraph", *(["library_name: transformers"] if transformers else []), "---"]
    origin = f"Merged from {', '.join(f'`{name}`' for name in names)} with permgraph.\n\n" if names else ""
    load = f'```python\nfrom transformers import AutoModel\n\nmodel = AutoModel.from_pretrained("{title}")\n```\n\n'
    return (
        "\n".join(front)
        + f"\n\n# {title}\n\n{origin}"
        + (f"{summary.strip()}\n\n" if summary.strip() else "")
        + (load if transformers else "")
        + "`permgraph.json` has the permutations, the method, the seeds, the hashes of the inputs and the proof that\n"
        "every permutation left the function of the model unchanged.\n"
    )


def public_name(reference: str) -> str:
    """A reference without where on this machine it lies: a folder's own name, anything else as it is."""
    path = Path(reference).expanduser()
    is_path = path.exists() or path.is_absolute() or reference.startswith(("./", "../", "~"))
    return path.resolve().name if is_path else reference
