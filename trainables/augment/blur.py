"""Gaussian blur with a width of each image's own, as products with two small matrices like the resize."""

from __future__ import annotations

import torch
from torch import Tensor

REACH = 6
"""Pixels to either side: three deviations of the widest published blur, 2.0."""


def blurred(images: Tensor, sigmas: Tensor, chosen: Tensor) -> Tensor:
    """Images with those of `chosen` (batch,) blurred, mirrored at the edges; the others as they are.

    images (batch, channels, side, side), 2 <= side; sigmas (batch,), positive, in pixels.
    """
    side = images.shape[-1]
    reach = min(REACH, side - 1)
    offsets = torch.arange(reach + 1, device=images.device)
    taps = torch.exp(-0.5 * (offsets / sigmas[:, None]) ** 2)  # (batch, reach + 1)
    taps = taps / (2 * taps.sum(dim=1, keepdim=True) - 1)
    taps = torch.where(chosen[:, None], taps, (offsets == 0).float())
    matrix = (taps @ _uses(side, reach, images.device).flatten(1)).view(-1, 1, side, side)
    return matrix @ images @ matrix.mT


def _uses(side: int, reach: int, device: torch.device) -> Tensor:
    """(reach + 1, side, side): how often pixel j, or its mirror image, lies 0, 1, ... pixels from pixel i."""
    offsets = torch.arange(reach + 1, device=device)[:, None, None]
    i, j = torch.arange(side, device=device)[:, None], torch.arange(side, device=device)
    direct = (i - j).abs() == offsets
    before = (i + j == offsets) & (j > 0)
    behind = (2 * (side - 1) - i - j == offsets) & (j < side - 1)
    return direct.float() + before + behind
