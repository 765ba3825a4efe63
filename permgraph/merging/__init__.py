"""Merge methods, one file each."""

from permgraph.merging import linear, slerp
from permgraph.merging.registry import METHODS, MergeMethod, merge_method

__all__ = ["METHODS", "MergeMethod", "linear", "merge_method", "slerp"]
