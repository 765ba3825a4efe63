"""Rules: one file for each family of operations, all in one table."""

from permgraph.rules import (
    attention,
    contraction,
    convolution,
    elementwise,
    index,
    norm,
    recurrent,
    reduction,
    segments,
    views,
)
from permgraph.rules.example import Example
from permgraph.rules.registry import RULES, Call, rule

__all__ = [
    "RULES",
    "Call",
    "Example",
    "attention",
    "contraction",
    "convolution",
    "elementwise",
    "index",
    "norm",
    "recurrent",
    "reduction",
    "rule",
    "segments",
    "views",
]
