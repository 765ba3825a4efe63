"""Calls of convolutions, pooling and resampling: they judge `permgraph.rules.convolution`."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

aten = torch.ops.aten


def _general(transposed: bool) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, w: aten.convolution(x, w, None, [1], [0], [1], transposed, [0], 2)


def _as_exported(x: Tensor, weight: Tensor) -> Tensor:
    result: Tensor = aten._convolution(x, weight, None, [1], [0], [1], False, [0], 2, False, False, True)
    return result


def _smooth(mode: str) -> Callable[[Tensor], Tensor]:
    return lambda x: F.interpolate(x, size=(3, 5), mode=mode, antialias=True)


EXAMPLES = (
    ("conv1d", F.conv1d, (2, 3, 7), (5, 3, 4), (5,)),
    ("conv1d", F.conv1d, (2, 3, 7), (5, 3, 1)),
    ("conv2d", lambda x, w: F.conv2d(x, w, groups=2), (1, 6, 5, 4), (10, 3, 2, 2)),
    ("conv3d", F.conv3d, (1, 2, 4, 4, 4), (3, 2, 2, 2, 2)),
    ("conv_transpose1d", lambda x, w: F.conv_transpose1d(x, w, groups=2), (2, 6, 5), (6, 4, 3)),
    ("conv_transpose2d", F.conv_transpose2d, (1, 3, 4, 4), (3, 5, 2, 2)),
    ("conv_transpose3d", F.conv_transpose3d, (1, 2, 3, 3, 3), (2, 3, 2, 2, 2)),
    ("convolution", _general(False), (2, 6, 5), (8, 3, 2)),
    ("convolution", _general(True), (2, 6, 5), (6, 4, 2)),
    ("adaptive_avg_pool1d", lambda x: F.adaptive_avg_pool1d(x, 2), (2, 3, 6)),
    ("adaptive_avg_pool2d", lambda x: F.adaptive_avg_pool2d(x, 1), (2, 3, 4, 5)),
    ("avg_pool2d", lambda x: F.avg_pool2d(x, 2), (2, 3, 4, 6)),
    ("max_pool1d", lambda x: F.max_pool1d(x, 2), (2, 3, 6)),
    ("max_pool2d", lambda x: F.max_pool2d(x, 2), (2, 3, 4, 6)),
    ("upsample_nearest2d", lambda x: F.interpolate(x, scale_factor=2), (1, 3, 2, 4)),
    ("upsample_bilinear2d", lambda x: F.interpolate(x, size=(5, 7), mode="bilinear"), (1, 3, 2, 4)),
    ("grid_sampler", lambda x, grid: F.grid_sample(x, grid / 3, align_corners=False), (1, 3, 4, 5), (1, 6, 7, 2)),
    ("im2col", lambda x: F.unfold(x, (2, 2)), (2, 3, 4, 5)),
    ("col2im", lambda x: F.fold(x, (4, 5), (2, 2)), (1, 12, 12)),
)

OTHER_FORMS = (
    ("_convolution", _as_exported, (2, 6, 5), (8, 3, 2)),
    ("_adaptive_avg_pool2d", lambda x: aten._adaptive_avg_pool2d(x, [2, 2]), (1, 3, 4, 4)),
    ("_adaptive_avg_pool3d", lambda x: aten._adaptive_avg_pool3d(x, [2, 2, 2]), (1, 3, 4, 4, 4)),
    ("upsample_nearest1d", lambda x: F.interpolate(x, scale_factor=2), (1, 3, 4)),
    ("upsample_nearest3d", lambda x: F.interpolate(x, scale_factor=2), (1, 3, 2, 2, 2)),
    ("upsample_linear1d", lambda x: F.interpolate(x, size=5, mode="linear"), (1, 3, 4)),
    ("upsample_trilinear3d", lambda x: F.interpolate(x, size=(3, 3, 3), mode="trilinear"), (1, 3, 2, 2, 2)),
    ("upsample_bicubic2d", lambda x: F.interpolate(x, size=(5, 7), mode="bicubic"), (1, 3, 4, 4)),
    ("_upsample_nearest_exact2d", lambda x: F.interpolate(x, size=(5, 7), mode="nearest-exact"), (1, 3, 2, 4)),
    ("_upsample_bicubic2d_aa", _smooth("bicubic"), (1, 3, 6, 8)),
    ("adaptive_avg_pool3d", lambda x: F.adaptive_avg_pool3d(x, 1), (1, 3, 2, 4, 5)),
    ("adaptive_max_pool1d", lambda x: F.adaptive_max_pool1d(x, 2), (2, 3, 6)),
    ("adaptive_max_pool2d", lambda x: F.adaptive_max_pool2d(x, 2), (1, 3, 4, 6)),
    ("adaptive_max_pool3d", lambda x: F.adaptive_max_pool3d(x, 2), (1, 3, 2, 4, 4)),
    ("avg_pool1d", lambda x: F.avg_pool1d(x, 2), (2, 3, 6)),
    ("avg_pool3d", lambda x: F.avg_pool3d(x, 2), (1, 3, 2, 4, 4)),
    ("max_pool3d", lambda x: F.max_pool3d(x, 2), (1, 3, 2, 4, 4)),
    ("_upsample_bilinear2d_aa", _smooth("bilinear"), (1, 3, 6, 8)),
    ("grid_sampler_2d", lambda x, grid: aten.grid_sampler_2d(x, grid / 3, 0, 0, False), (1, 3, 4, 5), (1, 6, 7, 2)),
)
