"""Models of timm and torchvision as they are published, few blocks deep, for the table in `zoo`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import vision
from zoo_rows import Case, L, Row


def timm(name: str, size: int, **options: Any) -> Callable[[], Case]:
    """A builder of a timm model and one square image."""

    def build() -> Case:
        torch.manual_seed(0)
        return Case(vision.load("timm").create_model(name, **options).eval(), (torch.randn(1, 3, size, size),))

    return build


def torchvision(name: str, size: int) -> Callable[[], Case]:
    """A builder of a torchvision model and one square image."""

    def build() -> Case:
        torch.manual_seed(0)
        model = vision.load("torchvision.models").get_model(name, weights=None)
        return Case(model.eval(), (torch.randn(1, 3, size, size),))

    return build


def heads(count: int, size: int) -> float:
    """Sym(count) of the heads, and Sym(size) for QK and for VO of each."""
    return L(count) + 2 * count * L(size)


def densenet() -> float:
    """A stem of 64, 58 layers of a bottleneck of 128 and 32 channels that are kept, three transitions."""
    return L(64) + (6 + 12 + 24 + 16) * (L(128) + L(32)) + L(128) + L(256) + L(512)


def mobilenet() -> float:
    """(channels, blocks) of each stage behind a block that does not widen; the blocks of a stage share channels."""
    order, before = L(32) + L(16) + L(1280), 16
    for channels, blocks in ((24, 2), (32, 3), (64, 4), (96, 3), (160, 3), (320, 1)):
        order += L(channels) + L(6 * before) + (blocks - 1) * L(6 * channels)
        before = channels
    return order


def regnet() -> float:
    """In each block a convolution of groups of 8 channels: the groups, and the channels going in and out of each."""
    stages = ((24, 1), (56, 1), (152, 4), (368, 7))
    return L(32) + sum(L(w) + blocks * (L(w // 8) + 2 * (w // 8) * L(8)) for w, blocks in stages)


FIRES = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))
ROWS = (
    Row("torchvision resnet18", torchvision("resnet18", 64), 3 * (L(64) + L(128) + L(256) + L(512))),
    Row("torchvision mobilenet_v2", torchvision("mobilenet_v2", 64), mobilenet()),
    Row("torchvision squeezenet1_1", torchvision("squeezenet1_1", 64), L(64) + sum(L(s) + 2 * L(e) for s, e in FIRES)),
    Row(
        "timm resnet50",
        timm("resnet50", 64),
        L(64) + sum(L(4 * w) + 2 * blocks * L(w) for w, blocks in ((64, 3), (128, 4), (256, 6), (512, 3))),
        slow=True,
    ),
    Row("timm densenet121", timm("densenet121", 64), densenet(), slow=True),
    Row("timm regnetx_002", timm("regnetx_002", 64), regnet()),
    Row(
        "timm convnext_atto",
        timm("convnext_atto", 64),
        sum(L(d) + blocks * L(4 * d) for d, blocks in ((40, 2), (80, 2), (160, 6), (320, 2))),
    ),
    Row(
        "timm vit_tiny_patch16_224",
        timm("vit_tiny_patch16_224", 32, depth=2, img_size=32),
        L(192) + 2 * (heads(3, 64) + L(768)),
    ),
    Row(
        "timm eva02_tiny_patch14_224",
        timm("eva02_tiny_patch14_224", 28, depth=2, img_size=28, num_classes=10),
        L(192) + 2 * (L(3) + 3 * L(64) + L(512)),  # rotation pins queries and keys
    ),
    Row(
        "timm swin_tiny_patch4_window7_224",
        timm("swin_tiny_patch4_window7_224", 56, depths=(2, 1), num_heads=(3, 6), img_size=56, window_size=7),
        L(96) + 2 * (heads(3, 32) + L(384)) + L(192) + heads(6, 32) + L(768),
    ),
    Row(
        "timm mixer_s32_224",
        timm("mixer_s32_224", 64, img_size=64),
        L(512) + 8 * (L(256) + L(2048)),
    ),
)
