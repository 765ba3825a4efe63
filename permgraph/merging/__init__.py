"""Merging models of one architecture."""

from permgraph.merging.methods import batch_norm, linear, pleas, refit, regmean, repair, slerp
from permgraph.merging.registry import (
    CORRECTIONS,
    LAYER_METHODS,
    METHODS,
    MergeFunction,
    correction,
    layer_method,
    merge_method,
)

__all__ = [
    "CORRECTIONS",
    "LAYER_METHODS",
    "METHODS",
    "MergeFunction",
    "batch_norm",
    "correction",
    "layer_method",
    "linear",
    "merge_method",
    "pleas",
    "refit",
    "regmean",
    "repair",
    "slerp",
]
