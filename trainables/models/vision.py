"""torchvision's models without their weights files, with stems for small images.

Above 96 pixels a model is the published one. It halves the image twice before its second stage, which would leave
little of a small one: up to 48 pixels both halvings go, up to 96 one. So images of 32 and of 64 pixels both come out as
4x4. ResNet and DenseNet then begin with a 3x3 convolution in place of the 7x7, as on CIFAR (He et al., arXiv
1512.03385, section 4.2; Huang et al., arXiv 1608.06993, section 3); the other two have a 3x3 one anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from trainables.config import ConfigError


@dataclass(frozen=True)
class VisionModel:
    """One of torchvision's models, as a factory."""

    name: str
    """As torchvision calls it."""
    stem: str
    """Path of the first convolution, which does the first halving."""
    second: str
    """Path of the module that does the second: a pooling, or a convolution of stride 2."""
    fan: Literal["fan_in", "fan_out"]
    """Of the normal Kaiming draw that torchvision gives this model's convolutions."""
    smallest: int = 1
    """Pixels of the smallest image that any feature is left of."""

    def __call__(self, in_channels: int, classes: int, image_size: int) -> nn.Module:
        """Raises ConfigError for an image that is too small."""
        # a second of import, which the small models do without
        import torchvision.models

        if image_size < self.smallest:
            raise ConfigError(
                f"{self.name} needs images of {self.smallest} pixels or more, but got (image_size={image_size}): take "
                "a larger size, or another model"
            )
        model: nn.Module = getattr(torchvision.models, self.name)(weights=None, num_classes=classes)
        halvings = early_halvings(image_size)
        stem = model.get_submodule(self.stem)
        assert isinstance(stem, nn.Conv2d)
        if in_channels != stem.in_channels or halvings < 2:
            model.set_submodule(self.stem, self._stem(stem, in_channels, small=halvings < 2))
        if halvings == 0:
            second = model.get_submodule(self.second)
            if isinstance(second, nn.Conv2d):
                second.stride = (1, 1)
            else:
                model.set_submodule(self.second, nn.Identity())
        return model

    def _stem(self, published: nn.Conv2d, in_channels: int, *, small: bool) -> nn.Conv2d:
        size, stride = (3, 1) if small else (published.kernel_size[0], published.stride[0])
        stem = nn.Conv2d(in_channels, published.out_channels, size, stride, padding=size // 2, bias=False)
        nn.init.kaiming_normal_(stem.weight, mode=self.fan, nonlinearity="relu")
        return stem


def early_halvings(image_size: int) -> int:
    """How often an image of so many pixels is halved before the second stage."""
    if image_size <= 48:
        return 0
    return 1 if image_size <= 96 else 2


VISION_MODELS = (
    VisionModel("resnet18", "conv1", "maxpool", "fan_out"),
    VisionModel("resnet34", "conv1", "maxpool", "fan_out"),
    VisionModel("resnet50", "conv1", "maxpool", "fan_out"),
    # its three poolings between stages drop what is left over
    VisionModel("densenet121", "features.conv0", "features.pool0", "fan_in", smallest=8),
    VisionModel("mobilenet_v2", "features.0.0", "features.2.conv.1.0", "fan_out"),
    VisionModel("efficientnet_b0", "features.0.0", "features.2.0.block.1.0", "fan_out"),
)
