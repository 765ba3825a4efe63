"""One hue a role, in OKLCH degrees, the same on every page."""

from __future__ import annotations

HUES = {
    "residual": 255,
    "attention.heads": 305,
    "attention.qk": 350,
    "attention.vo": 25,
    "experts": 105,
    "recurrent": 230,
    "feed_forward": 75,
    "conv": 150,
    "other": 200,
}


def role_colour(role: str) -> str:
    """A CSS colour, with the lightness of the page's scheme."""
    return f"oklch(var(--tone) 0.14 {HUES.get(role, HUES['other'])})"
