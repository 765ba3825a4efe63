"""Turns each notebook into a page: its text, its code, and the outputs that are stored in it."""

from __future__ import annotations

import json
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Put a page in the place of every notebook."""
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        page = File.generated(
            config, file.src_uri.removesuffix(".ipynb") + ".md", content=markdown(file.content_string)
        )
        files.remove(file)
        files.append(page)
    return files


def markdown(notebook: str) -> str:
    """The notebook as Markdown."""
    return "\n\n".join(_cell(cell) for cell in json.loads(notebook)["cells"]) + "\n"


def _cell(cell: dict[str, Any]) -> str:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return source
    return "\n\n".join([f"```python\n{source}\n```", *(_output(output) for output in cell["outputs"])])


def _output(output: dict[str, Any]) -> str:
    data = output.get("data", {})
    if "text/html" in data:
        return "<div>" + "".join(data["text/html"]) + "</div>"
    return "```text\n" + "".join(output.get("text") or data["text/plain"]).rstrip() + "\n```"
