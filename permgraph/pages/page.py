"""A page as one file: its style and script are inlined, and its content policy forbids every request."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from typing import Any

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def asset(name: str) -> str:
    """The text of a file in this folder."""
    return (files("permgraph.pages") / "assets" / name).read_text(encoding="utf-8")


def page(title: str, body: str, *, styles: tuple[str, ...], scripts: tuple[str, ...] = (), data: str = "") -> str:
    """The HTML of a page: `styles` and `scripts` name assets, `data` is what `packed` returned."""
    style = "\n".join(asset(name) for name in styles)
    script = "\n".join(asset(name) for name in scripts)
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>{escape(title)}</title>\n<style>\n{style}</style></head>\n<body>\n{body}\n",
    ]
    if data:
        parts.append(f'<script id="data" type="text/plain">{data}</script>\n')
    if script:
        parts.append(f'<script>\n"use strict";\n(() => {{\n{script}}})();\n</script>\n')
    return "".join([*parts, "</body></html>\n"])


def packed(value: Mapping[str, Any]) -> str:
    """Compressed JSON in characters that need no escaping in HTML; the same value gives the same text."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def unpacked(text: str) -> Any:
    """The inverse of `packed`."""
    return json.loads(gzip.decompress(base64.b64decode(text)))
