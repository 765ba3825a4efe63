"""Calls of views: they judge `permgraph.rules.views`."""

import torch
import torch.nn.functional as F

aten = torch.ops.aten

EXAMPLES = (
    ("view", lambda x: x.view(2, 3, 4), (2, 12)),
    ("view", lambda x: x.view(6, 4), (2, 12)),
    ("view", lambda x: x.view(3, 8), (4, 6)),
    ("reshape", lambda x: x.reshape(-1), (2, 3)),
    ("flatten", lambda x: x.flatten(1), (2, 3, 4)),
    ("unflatten", lambda x: x.unflatten(1, (3, 4)), (2, 12)),
    ("unsqueeze", lambda x: x.unsqueeze(1), (2, 3)),
    ("squeeze", lambda x: x.squeeze(1), (2, 1, 3)),
    ("permute", lambda x: x.permute(2, 0, 1), (2, 3, 4)),
    ("transpose", lambda x: x.transpose(0, 2), (2, 3, 4)),
    ("t", torch.t, (2, 3)),
    ("movedim", lambda x: x.movedim((0, 1), (2, 0)), (2, 3, 4)),
    ("expand", lambda x: x.expand(2, 3, 4), (3, 1)),
    ("repeat", lambda x: x.repeat(2, 3), (4, 5)),
    ("repeat_interleave", lambda x: x.repeat_interleave(2, 1), (2, 3)),
    ("pixel_shuffle", lambda x: F.pixel_shuffle(x, 2), (1, 8, 3, 1)),
    ("pixel_unshuffle", lambda x: F.pixel_unshuffle(x, 2), (1, 2, 6, 2)),
    ("view_as_complex", lambda x: torch.view_as_complex(x).abs(), (3, 4, 2)),
    ("channel_shuffle", lambda x: F.channel_shuffle(x, 2), (1, 6, 4, 1)),
)

OTHER_FORMS = (
    ("view_as_real", lambda x: torch.view_as_real(x.to(torch.complex128)), (3, 4)),
    ("_unsafe_view", lambda x: aten._unsafe_view(x, [2, 3, 4]), (2, 12)),
    ("swapaxes", lambda x: x.swapaxes(0, 2), (2, 3, 4)),
    ("swapdims", lambda x: x.swapdims(0, 2), (2, 3, 4)),
    ("moveaxis", lambda x: x.moveaxis(0, 2), (2, 3, 4)),
    ("native_channel_shuffle", lambda x: aten.native_channel_shuffle(x, 2), (1, 6, 4, 1)),
    ("adjoint", aten.adjoint, (2, 3)),
    ("mT", lambda x: x.mT, (2, 3, 4)),
    ("numpy_T", aten.numpy_T, (2, 3)),
    ("broadcast_to", lambda x: x.broadcast_to(2, 3, 4), (3, 1)),
    ("expand_as", lambda x, y: x.expand_as(y), (3, 1), (2, 3, 4)),
    ("ravel", torch.ravel, (2, 3)),
    ("reshape_as", lambda x, y: x.reshape_as(y), (2, 12), (2, 3, 4)),
    ("tile", lambda x: x.tile(2, 3), (4, 5)),
    ("view_as", lambda x, y: x.view_as(y), (2, 12), (2, 3, 4)),
)
