"""Merging models of one architecture."""

from permgraph.merging import methods
from permgraph.merging.registry import correction, layer_method, merge_method

__all__ = ["correction", "layer_method", "merge_method", "methods"]
