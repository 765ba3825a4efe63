"""Calls of reductions, extremes and distances: they judge `permgraph.rules.reduction`."""

import torch
import torch.nn.functional as F

aten = torch.ops.aten

EXAMPLES = (
    ("sum", lambda x: x.sum(1), (2, 3, 4)),
    ("sum", torch.sum, (2, 3)),
    ("mean", lambda x: x.mean((0, 2), keepdim=True), (2, 3, 4)),
    ("amax", lambda x: x.amax(-1), (2, 3)),
    ("max", lambda x: x.max(1), (2, 3, 4)),
    ("max", torch.max, (2, 3), (2, 3)),
    ("var", lambda x: x.var(1), (2, 3)),
    ("std", lambda x: x.std(1), (2, 3)),
    ("prod", lambda x: x.prod(0), (2, 3)),
    ("logsumexp", lambda x: x.logsumexp(1), (2, 3)),
    ("linalg_vector_norm", lambda x: torch.linalg.vector_norm(x, dim=1), (2, 3)),
    ("argmax", lambda x: x.argmax(1), (3, 4)),
    ("median", lambda x: x.median(1), (3, 5)),
    ("norm", lambda x: aten.norm.ScalarOpt_dim(x, 2, [1]), (2, 3)),
    ("cosine_similarity", lambda a, b: F.cosine_similarity(a, b, 1), (3, 4, 5), (3, 4, 1)),
    ("pairwise_distance", F.pairwise_distance, (3, 4), (3, 4)),
    ("linalg_norm", lambda x: torch.linalg.norm(x, dim=1), (2, 3)),
    ("linalg_norm", lambda x: torch.linalg.norm(x, ord=2, dim=(1, 2)), (2, 3, 4)),
)

OTHER_FORMS = (
    ("all", lambda x: (x > -1).all(1), (2, 3)),
    ("any", lambda x: (x > 1).any(1), (2, 3)),
    ("amin", lambda x: x.amin(-1), (2, 3)),
    ("argmin", lambda x: x.argmin(1), (3, 4)),
    ("count_nonzero", lambda x: F.relu(x).count_nonzero(1), (2, 3)),
    ("frobenius_norm", lambda x: aten.frobenius_norm(x, [1]), (2, 3)),
    ("kthvalue", lambda x: x.kthvalue(2, 1), (3, 5)),
    ("min", lambda x: x.min(1), (2, 3, 4)),
    ("nansum", lambda x: x.nansum(1), (2, 3)),
    ("std_mean", lambda x: torch.std_mean(x, 1), (2, 3)),
    ("var_mean", lambda x: torch.var_mean(x, 1), (2, 3)),
)
