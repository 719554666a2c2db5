"""Augmentation by index arithmetic: per sample, on the device.

What happens to a sample is drawn for a whole epoch at once and looked up by the sample's place in the data
set. So it depends on (seed, epoch, sample) alone, not on micro-batches, workers or where a run was
interrupted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from trainables.config import require_known


@dataclass(frozen=True)
class Augmentation:
    name: str
    draw: Callable[[int, torch.Generator], Tensor]
    """(items, generator on the CPU) -> (items, k) random choices of one epoch."""
    apply: Callable[[Tensor, Tensor, float], Tensor]
    """(images, their rows of choices, background value) -> images of the same shape."""


def _draw_nothing(items: int, generator: torch.Generator) -> Tensor:
    del generator
    return torch.empty(items, 0, dtype=torch.int64)


def _keep(images: Tensor, choices: Tensor, background: float) -> Tensor:
    del choices, background
    return images


def _draw_shift(items: int, generator: torch.Generator) -> Tensor:
    return torch.randint(-1, 2, (items, 2), generator=generator)


def shift(images: Tensor, offsets: Tensor, background: float) -> Tensor:
    """Move image i by offsets[i] = (down, right) in {-1, 0, 1}; what comes in is background (a raw zero).

    images (batch, channels, height, width), offsets (batch, 2) int64.
    """
    batch, channels, height, width = images.shape
    padded = F.pad(images, (1, 1, 1, 1), value=background)
    rows = torch.arange(1, height + 1, device=images.device) - offsets[:, :1]  # (batch, height)
    columns = torch.arange(1, width + 1, device=images.device) - offsets[:, 1:]  # (batch, width)
    sample = torch.arange(batch, device=images.device)[:, None, None, None]
    channel = torch.arange(channels, device=images.device)[None, :, None, None]
    return padded[sample, channel, rows[:, None, :, None], columns[:, None, None, :]]


AUGMENTATIONS: dict[str, Augmentation] = {
    item.name: item for item in (Augmentation("none", _draw_nothing, _keep), Augmentation("shift", _draw_shift, shift))
}


def build_augmentation(name: str) -> Augmentation:
    """Raises ConfigError on an unknown name."""
    require_known("augmentation", name, tuple(AUGMENTATIONS))
    return AUGMENTATIONS[name]
