"""Linear interpolation of weights."""

from collections.abc import Sequence

from torch import Tensor

from permgraph.merging.registry import merge_method
from permgraph.merging.shares import Share


@merge_method("linear", reference="arXiv 2506.11403")
def linear(tensors: Sequence[Tensor], shares: Sequence[Share]) -> Tensor:
    """Σ share · tensor."""
    total: Tensor = shares[0] * tensors[0]
    for share, tensor in zip(shares[1:], tensors[1:], strict=True):
        total += share * tensor
    return total
