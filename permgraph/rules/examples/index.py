"""Calls of look-ups: they judge `permgraph.rules.index`."""

import torch
import torch.nn.functional as F
from torch import Tensor

aten = torch.ops.aten

TWO_IN_A_ROW = torch.tensor([[0, 3], [1, 4]])
MASK = torch.tensor([[True, False], [False, True], [True, True]])


def _merged(x: Tensor, source: Tensor, mask: Tensor) -> Tensor:
    return x.masked_scatter(mask[..., None].expand_as(x), source)


def _masked_token(x: Tensor, token: Tensor, mask: Tensor) -> Tensor:
    return x.index_put((mask,), token)


def _unsafe_masked_token(x: Tensor, token: Tensor, mask: Tensor) -> Tensor:
    result: Tensor = aten._unsafe_index_put(x, [mask], token)
    return result


def _added_at_places(x: Tensor, values: Tensor, index: Tensor) -> Tensor:
    return x.scatter_reduce(1, index, values, "sum")


EXAMPLES = (
    ("embedding", lambda w, i: F.embedding(i, w), (5, 3), torch.tensor([[0, 2], [1, 4]])),
    ("embedding_bag", lambda w, i: F.embedding_bag(i, w, mode="max"), (3, 4), torch.tensor([[0, 2], [1, 0]])),
    ("diagonal", lambda x: x.diagonal(dim1=1, dim2=3), (2, 4, 3, 4)),
    ("diagonal", lambda x: x.diagonal(1), (4, 4)),
    ("index", lambda x, i: x[:, i], (2, 5, 3), torch.tensor([0, 3, 3])),
    ("index", lambda x, i: x[i, :, i], (5, 2, 5), torch.tensor([0, 3, 4])),
    ("index", lambda x, i: x[:, i, i], (2, 5, 5), torch.tensor([[0], [4]])),
    ("index", lambda x: x[:, [2, 3]], (2, 5)),
    ("index", lambda x: x[:, [0, 3, 1, 4, 2, 5]], (2, 6)),
    ("index", lambda x: x[[0, 1, 4, 5, 2, 3, 6, 7]], (8, 2)),
    ("index_select", lambda x, i: x.index_select(1, i), (2, 5), torch.tensor([0, 3, 3])),
    ("gather", lambda x, i: x.gather(1, i), (2, 5), torch.tensor([[0, 3, 3], [1, 2, 4]])),
    ("gather", lambda x, i: x.sum().gather(0, i), (2, 5), torch.tensor(0)),
    ("scatter", lambda x, v, i: x.scatter(1, i, v), (3, 5), (3, 2), torch.tensor([[0, 3], [1, 4], [2, 0]])),
    ("scatter_add", lambda x, v, i: x.scatter_add(1, i, v), (3, 5), (2, 2), TWO_IN_A_ROW),
    ("masked_scatter", _merged, (2, 3, 4), (5, 4), torch.tensor([[True, False, True], [True, True, False]])),
    ("index_add", lambda x, v, i: x.index_add(1, i, v), (3, 5, 4), (3, 2, 4), torch.tensor([0, 3])),
    ("index_fill", lambda x, i: x.index_fill(1, i, 0.5), (3, 5), torch.tensor([0, 3])),
    ("index_put", _masked_token, (3, 2, 4), (4,), MASK),
)

OTHER_FORMS = (
    ("_unsafe_index_put", _unsafe_masked_token, (3, 2, 4), (4,), MASK),
    ("index_copy", lambda x, v, i: x.index_copy(1, i, v), (3, 5, 4), (3, 2, 4), torch.tensor([0, 3])),
    ("scatter_reduce", _added_at_places, (3, 5), (2, 2), TWO_IN_A_ROW),
    ("take_along_dim", lambda x, i: x.take_along_dim(i, 1), (2, 5), torch.tensor([[0, 3, 3], [1, 2, 4]])),
)
