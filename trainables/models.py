"""Models by name: factories taking (in_channels, classes, image_size); models return (batch, classes)."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from trainables.config import require_known

ModelFactory = Callable[[int, int, int], nn.Module]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, projected where shapes change (He et al., arXiv 1512.03385)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, images: Tensor) -> Tensor:
        hidden = F.relu(self.norm1(self.conv1(images)), inplace=True)
        return F.relu(self.norm2(self.conv2(hidden)) + self.shortcut(images), inplace=True)


class SmallResNet(nn.Module):
    """A stem at full resolution, a stage of basic blocks a width, halving from the second on, mean pooling."""

    def __init__(self, in_channels: int, classes: int, widths: tuple[int, ...], blocks_per_stage: int = 1) -> None:
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
                blocks.append(BasicBlock(previous, width, stride=2 if stage > 0 and block == 0 else 1))
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


MODELS: dict[str, ModelFactory] = {"resnet8": resnet8}


def build_model(name: str, *, in_channels: int, classes: int, image_size: int) -> nn.Module:
    """Weights are drawn from torch's global generator. Raises ConfigError on an unknown name."""
    require_known("model", name, tuple(MODELS))
    return MODELS[name](in_channels, classes, image_size)
