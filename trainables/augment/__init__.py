"""Augmentations by name. A new one is a function of raw images and uniform numbers, and an entry below.

Each image's fate is in its own uniform numbers; nothing waits for the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from trainables.augment.barlow_twins import VIEW_DRAWS, View, colour_views, grey_views
from trainables.augment.crop import CROP_FLIP_DRAWS, SHIFT_DRAWS, centre_crop, crop_flip, shift
from trainables.augment.resize import RESIZE_DRAWS, ResizedCrop, resized_crop
from trainables.config import ConfigError, require_known

__all__ = ["AUGMENTATIONS", "Augmentation", "build_augmentation", "centre_crop"]

Apply = Callable[[Tensor, Tensor, float], Tensor]

_CPU_BLOCK, _DEVICE_BLOCK = 1 << 20, 1 << 26
"""Values worked on at once: on the CPU temporaries stay in the cache (2-4x), elsewhere they take 256 MiB each."""


@dataclass(frozen=True)
class Augmentation:
    name: str
    draws: int
    """Uniform numbers a sample and view."""
    views: tuple[Apply, ...]
    """A function a view: (images (batch, C, H, W) uint8, uniforms (batch, draws), raw value of full brightness) ->
    raw uint8, or float32 in [0, 1], (batch, C, S, S) with the side length S that the model sees."""
    channels: int | None = None
    """What it needs the images to have, if it is not all the same."""


def _none(size: int) -> Augmentation:
    return Augmentation("none", 0, (lambda images, _, __: centre_crop(images, size),))


def _shift(size: int) -> Augmentation:
    return Augmentation("shift", SHIFT_DRAWS, (lambda images, uniforms, _: shift(images, uniforms, size),))


def _crop_flip(size: int) -> Augmentation:
    return Augmentation("crop_flip", CROP_FLIP_DRAWS, (lambda images, uniforms, _: crop_flip(images, uniforms, size),))


def _random_resized_crop(size: int) -> Augmentation:
    view = partial(resized_crop, size=size, crop=ResizedCrop())
    return Augmentation("random_resized_crop", RESIZE_DRAWS, (partial(_in_blocks, view),))


def _barlow_twins(size: int) -> Augmentation:
    return Augmentation("barlow_twins", VIEW_DRAWS, _applied(colour_views(size), size), channels=3)


def _barlow_twins_grey(size: int) -> Augmentation:
    return Augmentation("barlow_twins_grey", VIEW_DRAWS, _applied(grey_views(size), size), channels=1)


def _applied(views: tuple[View, ...], size: int) -> tuple[Apply, ...]:
    return tuple(partial(_in_blocks, partial(view, size=size)) for view in views)


def _in_blocks(view: Apply, images: Tensor, uniforms: Tensor, peak: float) -> Tensor:
    block = _CPU_BLOCK if images.device.type == "cpu" else _DEVICE_BLOCK
    samples = max(1, block // math.prod(images.shape[1:]))
    if len(images) <= samples:
        return view(images, uniforms, peak)
    parts = zip(torch.split(images, samples), torch.split(uniforms, samples), strict=True)
    return torch.cat([view(*part, peak) for part in parts])


AUGMENTATIONS: dict[str, Callable[[int], Augmentation]] = {
    "none": _none,
    "shift": _shift,
    "crop_flip": _crop_flip,
    "random_resized_crop": _random_resized_crop,
    "barlow_twins": _barlow_twins,
    "barlow_twins_grey": _barlow_twins_grey,
}
"""name -> (side length that the model sees) -> the augmentation."""


def build_augmentation(name: str, *, image_shape: tuple[int, int, int]) -> Augmentation:
    """For images of (channels, side, side) as the model sees them.

    Raises ConfigError on an unknown name, and where the images lack the channels that it needs.
    """
    require_known("augmentation", name, tuple(AUGMENTATIONS))
    channels, _, size = image_shape
    augmentation = AUGMENTATIONS[name](size)
    if augmentation.channels not in (None, channels):
        fitting = [other for other in AUGMENTATIONS if AUGMENTATIONS[other](size).channels in (None, channels)]
        raise ConfigError(
            f"augmentation {name} is for images of {augmentation.channels} channel(s), but these have {channels}; "
            f"choose one of {', '.join(fitting)}"
        )
    return augmentation
