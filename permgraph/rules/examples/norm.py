"""Calls of norms and reductions: they judge `permgraph.rules.norm`."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

aten = torch.ops.aten


def _with_statistics_of_the_batch(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.batch_norm(x, None, None, weight, bias, True)


def _without_training(x: Tensor, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor) -> Any:
    return aten._native_batch_norm_legit_no_training(x, weight, bias, mean, var.abs(), 0.1, 1e-5)[0]


def _with_stored_statistics(x: Tensor, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor) -> Any:
    return aten.native_batch_norm(x, weight, bias, mean, var.abs(), False, 0.1, 1e-5)[0]


EXAMPLES = (
    ("layer_norm", lambda x, w, b: F.layer_norm(x, (5,), w, b), (2, 3, 5), (5,), (5,)),
    ("layer_norm", lambda x: F.layer_norm(x, (4, 5)), (3, 4, 5)),
    ("rms_norm", lambda x, w: F.rms_norm(x, (5,), w, 0.1), (3, 5), (5,)),
    ("native_layer_norm", lambda x, w, b: aten.native_layer_norm(x, [5], w, b, 1e-5)[0], (3, 5), (5,), (5,)),
    ("group_norm", lambda x, w, b: F.group_norm(x, 2, w, b), (2, 6, 5), (6,), (6,)),
    ("batch_norm", lambda x, m, v, w, b: F.batch_norm(x, m, v.abs(), w, b), (2, 3, 5), (3,), (3,), (3,), (3,)),
    ("instance_norm", F.instance_norm, (2, 3, 5)),
    ("_weight_norm", lambda v, g: torch._weight_norm(v, g, 0), (3, 4, 5), (3, 1, 1)),
    ("_weight_norm", lambda v, g: torch._weight_norm(v, g, 2), (3, 4, 5), (1, 1, 5)),
    ("softmax", lambda x: x.softmax(0), ()),
    ("softmax", lambda x: F.softmax(x, 1), (2, 3, 4)),
    ("log_softmax", lambda x: F.log_softmax(x, -1), (2, 3, 4)),
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
    ("batch_norm", _with_statistics_of_the_batch, (4, 3), (3,), (3,)),
    ("norm", lambda x: aten.norm.ScalarOpt_dim(x, 2, [1]), (2, 3)),
    ("cosine_similarity", lambda a, b: F.cosine_similarity(a, b, 1), (3, 4, 5), (3, 4, 1)),
    ("pairwise_distance", F.pairwise_distance, (3, 4), (3, 4)),
    ("linalg_norm", lambda x: torch.linalg.norm(x, dim=1), (2, 3)),
    ("linalg_norm", lambda x: torch.linalg.norm(x, ord=2, dim=(1, 2)), (2, 3, 4)),
)

OTHER_FORMS = (
    ("_softmax", lambda x: aten._softmax(x, 1, False), (2, 3, 4)),
    ("_log_softmax", lambda x: aten._log_softmax(x, 1, False), (2, 3, 4)),
    ("_safe_softmax", lambda x: aten._safe_softmax(x, 1), (2, 3, 4)),
    ("_fused_rms_norm", lambda x, w: aten._fused_rms_norm(x, [5], w, 0.1)[0], (3, 5), (5,)),
    ("_native_batch_norm_legit_no_training", _without_training, (2, 3, 5), (3,), (3,), (3,), (3,)),
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
    ("native_batch_norm", _with_stored_statistics, (2, 3, 5), (3,), (3,), (3,), (3,)),
)
