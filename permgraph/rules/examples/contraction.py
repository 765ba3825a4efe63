"""Calls of sums of products: they judge `permgraph.rules.contraction`."""

import torch
import torch.nn.functional as F

EXAMPLES = (
    ("linear", F.linear, (2, 3), (5, 3), (5,)),
    ("linear", F.linear, (2, 3), (5, 3)),
    ("linear", F.linear, (2, 4, 3), (3,)),
    ("linear", F.linear, (2, 4, 3), (3,), ()),
    ("matmul", torch.matmul, (2, 3, 4), (4, 5)),
    ("matmul", torch.matmul, (3, 2, 4, 5), (3, 1, 5, 6)),
    ("matmul", torch.matmul, (3, 4), (4,)),
    ("mm", torch.mm, (2, 3), (3, 4)),
    ("bmm", torch.bmm, (2, 3, 4), (2, 4, 5)),
    ("mv", torch.mv, (2, 3), (3,)),
    ("dot", torch.dot, (4,), (4,)),
    ("vdot", torch.vdot, (4,), (4,)),
    ("addmm", torch.addmm, (4,), (2, 3), (3, 4)),
    ("baddbmm", torch.baddbmm, (2, 1, 5), (2, 3, 4), (2, 4, 5)),
    ("addbmm", torch.addbmm, (3, 5), (2, 3, 4), (2, 4, 5)),
    ("addmv", torch.addmv, (2,), (2, 3), (3,)),
    ("einsum", lambda a, b: torch.einsum("bhqd,bhkd->bhqk", a, b), (2, 3, 4, 5), (2, 3, 6, 5)),
    ("einsum", lambda a: torch.einsum("i...->...i", a), (2, 3, 4)),
    ("tensordot", lambda a, b: torch.tensordot(a, b, dims=([2, 0], [1, 2])), (2, 3, 4), (5, 4, 2)),
    ("kron", torch.kron, (2, 3), (4, 2)),
    ("trace", torch.trace, (4, 4)),
    ("outer", torch.outer, (3,), (4,)),
    ("bilinear", F.bilinear, (2, 3), (2, 4), (5, 3, 4), (5,)),
    ("cdist", torch.cdist, (3, 5), (4, 5)),
)

OTHER_FORMS = (("ger", torch.ger, (3,), (4,)),)
