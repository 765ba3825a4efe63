"""Calls of attention: they judge `permgraph.rules.attention`."""

import torch.nn.functional as F
from torch import Tensor


def _grouped(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, enable_gqa=True)


def _masked(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


EXAMPLES = (
    ("scaled_dot_product_attention", F.scaled_dot_product_attention, (2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 7)),
    ("scaled_dot_product_attention", _grouped, (2, 6, 4, 5), (2, 3, 7, 5), (2, 3, 7, 8)),
    ("scaled_dot_product_attention", _masked, (2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 7), (3, 1, 6)),
)
