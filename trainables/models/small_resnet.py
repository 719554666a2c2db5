"""Residual networks of basic blocks for small images (He et al., arXiv 1512.03385, section 4.2)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class PaddedShortcut(nn.Module):
    """Every second pixel, with `extra` channels of zeros: the paper's option A, which has no parameters."""

    def __init__(self, stride: int, extra: int) -> None:
        super().__init__()
        self.stride = stride
        self.extra = extra

    def forward(self, images: Tensor) -> Tensor:
        """(batch, C, H, W) -> (batch, C + extra, ceil(H / stride), ceil(W / stride))."""
        return F.pad(images[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; where shapes change it is a projection (option B), or padded (option A)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, *, padded: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = (
                PaddedShortcut(stride, out_channels - in_channels)
                if padded
                else nn.Sequential(
                    nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
                )
            )

    def forward(self, images: Tensor) -> Tensor:
        hidden = F.relu(self.norm1(self.conv1(images)), inplace=True)
        return F.relu(self.norm2(self.conv2(hidden)) + self.shortcut(images), inplace=True)


class SmallResNet(nn.Module):
    """A stem at full resolution, a stage of basic blocks a width, halving from the second on, mean pooling."""

    def __init__(
        self,
        in_channels: int,
        classes: int,
        widths: tuple[int, ...],
        blocks_per_stage: int = 1,
        padded_shortcuts: bool = False,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=True),
        )
        blocks: list[nn.Module] = []
        previous = widths[0]
        for stage, width in enumerate(widths):
            for block in range(blocks_per_stage):
                stride = 2 if stage > 0 and block == 0 else 1
                blocks.append(BasicBlock(previous, width, stride, padded=padded_shortcuts))
                previous = width
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(previous, classes)

    def forward(self, images: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, classes)."""
        features: Tensor = self.blocks(self.stem(images))
        logits: Tensor = self.head(features.mean(dim=(2, 3)))
        return logits


def resnet8(in_channels: int, classes: int, image_size: int) -> nn.Module:
    """Three residual blocks of width 16, 32, 64: 77,754 parameters for grey images and ten classes."""
    del image_size  # pooling takes any
    return SmallResNet(in_channels, classes, widths=(16, 32, 64))


def resnet20(in_channels: int, classes: int, image_size: int) -> nn.Module:
    """The paper's ResNet-20 for CIFAR-10, with its padded shortcuts: 269,722 parameters (0.27M, its table 6)."""
    del image_size  # pooling takes any
    return SmallResNet(in_channels, classes, widths=(16, 32, 64), blocks_per_stage=3, padded_shortcuts=True)
