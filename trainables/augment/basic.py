"""Augmentation by index arithmetic: per sample, on the device, on raw images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def shift(images: Tensor, uniforms: Tensor, peak: float) -> Tensor:
    """Move each image by up to one pixel down and right; what comes in is black.

    images (batch, channels, height, width), uniforms (batch, 2).
    """
    del peak
    return moved(images, (uniforms * 3).long(), padding=1)


def moved(images: Tensor, corners: Tensor, padding: int) -> Tensor:
    """Crop each image, padded with black by `padding` on every side, at corners (batch, 2) = (top, left)."""
    batch, channels, height, width = images.shape
    padded = F.pad(images, (padding, padding, padding, padding))
    rows = torch.arange(height, device=images.device) + corners[:, :1]  # (batch, height)
    columns = torch.arange(width, device=images.device) + corners[:, 1:]  # (batch, width)
    sample = torch.arange(batch, device=images.device)[:, None, None, None]
    channel = torch.arange(channels, device=images.device)[None, :, None, None]
    return padded[sample, channel, rows[:, None, :, None], columns[:, None, None, :]]
