"""Calls of norms: they judge `permgraph.rules.norm`."""

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
    ("batch_norm", _with_statistics_of_the_batch, (4, 3), (3,), (3,)),
)

OTHER_FORMS = (
    ("_softmax", lambda x: aten._softmax(x, 1, False), (2, 3, 4)),
    ("_log_softmax", lambda x: aten._log_softmax(x, 1, False), (2, 3, 4)),
    ("_safe_softmax", lambda x: aten._safe_softmax(x, 1), (2, 3, 4)),
    ("_fused_rms_norm", lambda x, w: aten._fused_rms_norm(x, [5], w, 0.1)[0], (3, 5), (5,)),
    ("_native_batch_norm_legit_no_training", _without_training, (2, 3, 5), (3,), (3,), (3,), (3,)),
    ("native_batch_norm", _with_stored_statistics, (2, 3, 5), (3,), (3,), (3,), (3,)),
)
