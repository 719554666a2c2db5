"""From raw pixels to what a model sees: per channel, zero mean and unit deviation over the training images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainables.config import ConfigError

IMAGES_AT_A_TIME = 1024


@dataclass(frozen=True)
class Normalisation:
    """Mean and deviation of each channel as shares of full brightness, and the raw value of full brightness."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    peak: float = 255.0

    def __call__(self, images: Tensor) -> Tensor:
        """(batch, channels, height, width), raw uint8 or float32 in [0, 1] -> float32, channels last."""
        shift, raw_scale, scale = _tables(self, images.device)
        dense = images.to(torch.float32, memory_format=torch.channels_last)
        return torch.addcmul(shift, dense, raw_scale if images.dtype == torch.uint8 else scale)


@cache
def _tables(normalisation: Normalisation, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Shift, factor of raw values, factor of shares: (channels, 1, 1) each."""
    mean, deviation = (
        torch.tensor(values, dtype=torch.float64)[:, None, None]
        for values in (normalisation.mean, normalisation.deviation)
    )
    tables = (-mean / deviation, 1.0 / (deviation * normalisation.peak), 1.0 / deviation)
    return tables[0].float().to(device), tables[1].float().to(device), tables[2].float().to(device)


@dataclass(frozen=True)
class PixelSums:
    """Exact sums over each image's pixels: with them any split's mean and deviation cost next to nothing."""

    values: npt.NDArray[np.int64]  # (items, channels)
    squares: npt.NDArray[np.int64]  # (items, channels)
    pixels: int  # of one image and channel


def pixel_sums(images: npt.NDArray[np.uint8]) -> PixelSums:
    """Of (items, channels, height, width)."""
    items, channels = images.shape[:2]
    values, squares = np.empty((2, items, channels), dtype=np.int64)
    for start in range(0, items, IMAGES_AT_A_TIME):
        part = images[start : start + IMAGES_AT_A_TIME].reshape(-1, channels, images[0, 0].size)
        values[start : start + len(part)] = part.sum(axis=2, dtype=np.int64)
        # 255 squared fits
        squares[start : start + len(part)] = np.square(part, dtype=np.uint16).sum(axis=2, dtype=np.int64)
    return PixelSums(values, squares, images[0, 0].size)


def measured_normalisation(sums: PixelSums, places: npt.NDArray[np.int64], peak: float, name: str) -> Normalisation:
    """By the exact mean and deviation of the images at `places`. ConfigError where a channel is flat."""
    means, deviations = [], []
    count = len(places) * sums.pixels
    for channel in range(sums.values.shape[1]):
        # Python's integers: nothing cancels
        total = int(sums.values[places, channel].sum())
        spread = count * int(sums.squares[places, channel].sum()) - total * total
        if spread == 0:
            raise ConfigError(f"the training images of {name!r} are all alike in channel {channel}: nothing to learn")
        means.append(total / (count * peak))
        deviations.append(math.sqrt(spread) / (count * peak))
    return Normalisation(tuple(means), tuple(deviations), peak)
