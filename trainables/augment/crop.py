"""Crops by index arithmetic, on raw images: exact, each image at a corner of its own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SHIFT_DRAWS = 2
CROP_FLIP_DRAWS = 3


def centre_crop(images: Tensor, size: int) -> Tensor:
    """The middle (size, size) of (batch, channels, height, width) images; smaller ones stay as they are."""
    top, left = (max(0, side - size) // 2 for side in images.shape[-2:])
    return images[..., top : top + size, left : left + size]


def shift(images: Tensor, uniforms: Tensor, size: int) -> Tensor:
    """Crop (size, size) anywhere out of an image with size / 8 black pixels, at least one, on every side.

    At 32 pixels that is the padding of 4 of He et al. (Deep residual learning, 2016, section 4.2).

    Args:
        images: (batch, channels, height, width), height and width at least `size`.
        uniforms: (batch, SHIFT_DRAWS) in [0, 1).
        size: side length of the result.
    """
    padding = max(1, size // 8)
    height, width = (side + 2 * padding - size + 1 for side in images.shape[-2:])
    corners = torch.stack([whole(uniforms[:, 0], height), whole(uniforms[:, 1], width)], dim=1)
    return cropped(images, corners, padding, size)


def crop_flip(images: Tensor, uniforms: Tensor, size: int) -> Tensor:
    """`shift`, and every second image mirrored left to right; uniforms (batch, CROP_FLIP_DRAWS)."""
    return flipped(shift(images, uniforms[:, :2], size), uniforms[:, 2] < 0.5)


def whole(uniforms: Tensor, choices: int | Tensor) -> Tensor:
    """0 .. choices - 1, int64, all alike: uniform numbers are multiples of 2**-24, so none rounds up to `choices`."""
    return (uniforms * choices).long()


def cropped(images: Tensor, corners: Tensor, padding: int, size: int) -> Tensor:
    """(size, size) of each image, padded with black by `padding` all round, from corners (batch, 2) = (top, left)."""
    padded = F.pad(images, (padding, padding, padding, padding))
    # A view with every possible crop: picking one an image copies whole rows, five times as fast as picking pixels.
    crops = padded.unfold(2, size, 1).unfold(3, size, 1)
    return crops[torch.arange(len(images), device=images.device), :, corners[:, 0], corners[:, 1]]


def flipped(images: Tensor, chosen: Tensor) -> Tensor:
    """Images with those of `chosen` (batch,) mirrored left to right."""
    return torch.where(chosen[:, None, None, None], images.flip(-1), images)
