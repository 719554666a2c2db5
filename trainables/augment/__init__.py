"""Augmentations by name. A new one is a function of raw images and uniform numbers, and a line below."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from trainables.augment.basic import shift
from trainables.config import require_known

__all__ = ["AUGMENTATIONS", "Augmentation", "build_augmentation", "centre_crop"]

Apply = Callable[[Tensor, Tensor, float], Tensor]


@dataclass(frozen=True)
class Augmentation:
    name: str
    draws: int
    """Uniform numbers a sample and view."""
    views: tuple[Apply, ...]
    """A function a view: (images (batch, C, H, W) uint8, uniforms (batch, draws), raw value of full brightness) ->
    raw uint8, or float32 in [0, 1]."""


AUGMENTATIONS: dict[str, Callable[[int], Augmentation]] = {
    "none": lambda size: Augmentation("none", 0, (lambda images, _, __: centre_crop(images, size),)),
    "shift": lambda size: Augmentation("shift", 2, (shift,)),
}
"""name -> (side length that the model sees) -> the augmentation."""


def build_augmentation(name: str, *, image_size: int) -> Augmentation:
    """Raises ConfigError on an unknown name."""
    require_known("augmentation", name, tuple(AUGMENTATIONS))
    return AUGMENTATIONS[name](image_size)


def centre_crop(images: Tensor, size: int) -> Tensor:
    """The middle (size, size) of (batch, channels, height, width) images; smaller ones stay as they are."""
    top, left = (max(0, side - size) // 2 for side in images.shape[-2:])
    return images[..., top : top + size, left : left + size]
