"""Linear interpolation of weights."""

from torch import Tensor

from permgraph.merging.registry import Share, merge_method


@merge_method("linear", reference="arXiv 2506.11403")
def linear(a: Tensor, b: Tensor, weight: Share) -> Tensor:
    """weight · a + (1 - weight) · b."""
    return weight * a + (1 - weight) * b
