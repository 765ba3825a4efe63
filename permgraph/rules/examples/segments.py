"""Calls of slices, joins, sorts and transforms along an axis: they judge `permgraph.rules.segments`."""

import torch
import torch.nn.functional as F

aten = torch.ops.aten

EXAMPLES = (
    ("slice", lambda x: x[:, 1:4], (2, 6)),
    ("slice", lambda x: x[:, 1::2], (3, 6)),
    ("slice", lambda x: x[:, ::4], (3, 6)),
    ("narrow", lambda x: x.narrow(1, 2, 3), (2, 6)),
    ("select", lambda x: x[:, 1], (2, 3, 4)),
    ("unbind", lambda x: x.unbind(1), (2, 3, 4)),
    ("chunk", lambda x: x.chunk(2, 1), (3, 8)),
    ("split", lambda x: x.split(3, 1), (2, 8)),
    ("split_with_sizes", lambda x: x.split([1, 3, 4], 1), (2, 8)),
    ("cat", lambda a, b: torch.cat([a, b], 1), (2, 3), (2, 4)),
    ("stack", lambda a, b: torch.stack([a, b], 1), (3, 4), (3, 4)),
    ("glu", lambda x: F.glu(x, 1), (3, 8)),
    ("pad", lambda x: F.pad(x, (1, 2)), (3, 4)),
    ("pad", lambda x: F.pad(x, (1, 2), mode="reflect"), (2, 3, 5)),
    ("pad", lambda x: F.pad(x, (1, 2), mode="reflect", value=0.0), (2, 3, 5)),
    ("roll", lambda x: x.roll(2, 1), (3, 5)),
    ("cumsum", lambda x: x.cumsum(1), (2, 4)),
    ("sort", lambda x: x.sort(1), (2, 4)),
    ("topk", lambda x: x.topk(2, 1), (3, 4)),
    ("argsort", lambda x: x.argsort(1), (2, 4)),
    ("fft_fft", lambda x: torch.fft.fft(x, dim=1).real, (3, 4)),
    ("fft_rfftn", lambda x: torch.fft.rfftn(x, dim=(1, 2)).abs(), (2, 3, 4)),
    ("flip", lambda x: x.flip(1), (2, 4)),
    ("tril", torch.tril, (3, 4)),
    ("unfold", lambda x: x.unfold(1, 3, 2), (2, 7)),
)

OTHER_FORMS = (
    ("concat", lambda a, b: torch.concat([a, b], 1), (2, 3), (2, 4)),
    ("concatenate", lambda a, b: torch.concatenate([a, b], 1), (2, 3), (2, 4)),
    ("tensor_split", lambda x: x.tensor_split(3, 1), (2, 8)),
    ("unsafe_chunk", lambda x: x.unsafe_chunk(2, 1), (3, 8)),
    ("unsafe_split", lambda x: x.unsafe_split(3, 1), (2, 8)),
    ("constant_pad_nd", lambda x: aten.constant_pad_nd(x, [1, 2], 0.5), (3, 4)),
    ("cummax", lambda x: x.cummax(1), (2, 4)),
    ("cummin", lambda x: x.cummin(1), (2, 4)),
    ("cumprod", lambda x: x.cumprod(1), (2, 4)),
    ("diff", lambda x: x.diff(dim=1), (2, 4)),
    ("logcumsumexp", lambda x: x.logcumsumexp(1), (2, 4)),
    ("msort", torch.msort, (4, 3)),
    ("triu", torch.triu, (3, 4)),
    ("fft_fft2", lambda x: torch.fft.fft2(x).abs(), (2, 3, 4)),
    ("fft_fftn", lambda x: torch.fft.fftn(x, dim=(1, 2)).abs(), (2, 3, 4)),
    ("fft_ifft", lambda x: torch.fft.ifft(x, dim=1).real, (3, 4)),
    ("fft_ifft2", lambda x: torch.fft.ifft2(x).abs(), (2, 3, 4)),
    ("fft_ifftn", lambda x: torch.fft.ifftn(x, dim=(1, 2)).abs(), (2, 3, 4)),
    ("fft_rfft", lambda x: torch.fft.rfft(x, dim=1).abs(), (3, 4)),
    ("fft_rfft2", lambda x: torch.fft.rfft2(x).abs(), (2, 3, 4)),
    ("fft_irfft", lambda x: torch.fft.irfft(x, dim=1), (3, 4)),
    ("fft_irfft2", lambda x: torch.fft.irfft2(x), (2, 3, 4)),
    ("fft_irfftn", lambda x: torch.fft.irfftn(x, dim=(1, 2)), (2, 3, 4)),
)
