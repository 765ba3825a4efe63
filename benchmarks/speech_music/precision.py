"""In which precision the encoders' activations are computed."""

from __future__ import annotations

import torch


def in_bfloat16(device: str | torch.device, fp32: bool = False) -> bool:
    """Whether bfloat16 is wanted and pays: without AVX-512 a processor emulates it, five times slower than float32."""
    slow = torch.device(device).type == "cpu" and not torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return not fp32 and not slow


def computing(device: str | torch.device, fp32: bool = False) -> torch.autocast:
    """The context in which activations are bfloat16 where that pays; weights stay float32."""
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=in_bfloat16(device, fp32))
