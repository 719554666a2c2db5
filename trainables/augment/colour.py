"""Colours and brightness of images in [0, 1], each image by numbers and in an order of its own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

JITTER_DRAWS = 9
"""Whether at all, four amounts, four that order them."""
_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = range(4)
SOLARISE_FROM = 128 / 255


@dataclass(frozen=True)
class Jitter:
    """Factors are even in 1 - strength .. 1 + strength; the hue turns by up to `hue` of a full circle either way."""

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.2
    hue: float = 0.1
    probability: float = 0.8


@dataclass(frozen=True)
class JitterDraw:
    """What each image gets."""

    factors: Tensor  # (batch, 4) of brightness, contrast, saturation; turn of the hue. Neutral where not applied.
    ranks: Tensor  # (batch, 4) int64: place in the order, 0 .. 3, of each of the four


def draw_jitter(uniforms: Tensor, jitter: Jitter) -> JitterDraw:
    """From uniforms (batch, JITTER_DRAWS)."""
    applied = uniforms[:, :1] < jitter.probability
    signed = torch.where(applied, 2 * uniforms[:, 1:5] - 1, 0.0)
    strengths = (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
    factors = [signed[:, number] * strength for number, strength in enumerate(strengths)]
    factors = [factor + 1 for factor in factors[:_HUE]] + factors[_HUE:]
    return JitterDraw(torch.stack(factors, dim=1), uniforms[:, 5:].argsort(dim=1, stable=True).argsort(dim=1))


def colour_jitter(images: Tensor, uniforms: Tensor, jitter: Jitter) -> Tensor:
    """Brightness, contrast, saturation and hue in a random order, as torchvision's ColorJitter defines them.

    images (batch, 3, height, width), or one channel, whose saturation and hue are nothing to change; uniforms
    (batch, JITTER_DRAWS). Factors must not be negative.
    """
    return jittered(images, draw_jitter(uniforms, jitter))


def jittered(images: Tensor, draw: JitterDraw) -> Tensor:
    """The first three are mixes with black, the mean grey and the grey image, so one pass takes each image's own.

    Six such passes and one turn of the hue go through every order: an image sits out the passes before the turn that
    stand behind it in its order, and those after the turn that stand before it.
    """
    colours = images.shape[1] == 3
    turn = draw.ranks[:, _HUE]
    for rank in range(3):
        images = _mixed(images, draw, draw.ranks[:, :_HUE] == rank, turn > rank)
    if not colours:
        return _remaining(images, draw, turn)
    return _remaining(turned(images, draw.factors[:, _HUE]), draw, turn)


def _remaining(images: Tensor, draw: JitterDraw, turn: Tensor) -> Tensor:
    for rank in range(1, 4):
        images = _mixed(images, draw, draw.ranks[:, :_HUE] == rank, turn < rank)
    return images


def _mixed(images: Tensor, draw: JitterDraw, chosen: Tensor, active: Tensor) -> Tensor:
    """Each image mixed as `chosen` (batch, 3), one of brightness, contrast and saturation or none, where `active`."""
    chosen = (chosen & active[:, None]).float()
    change = chosen * (draw.factors[:, :_HUE] - 1)  # (batch, 3)
    ratio = 1 + change.sum(dim=1)
    grey = grey_of(images)
    with_mean = -change[:, _CONTRAST] * grey.mean(dim=(1, 2, 3))
    other = torch.addcmul(_spread(with_mean), grey, _spread(-change[:, _SATURATION]))
    return torch.addcmul(other, images, _spread(ratio)).clamp_(0, 1)


def turned(images: Tensor, turns: Tensor) -> Tensor:
    """The hue of (batch, 3, height, width) turned by `turns` (batch,) of a full circle; value and saturation stay.

    Smith: Color gamut transform pairs (1978), HSV, in the form without cases: channel = value - chroma * ramp(hue).
    """
    red, green, blue = images.unbind(dim=1)
    value = torch.maximum(torch.maximum(red, green), blue)  # several times as fast as aminmax over the channels
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    divisor = torch.where(chroma > 0, chroma, 1.0)
    hue = torch.where(
        value == red,
        (green - blue) / divisor,
        torch.where(value == green, (blue - red) / divisor + 2, (red - green) / divisor + 4),
    )  # sixths of a circle, -1 .. 5
    hue += 6 * turns[:, None, None]
    result = torch.empty_like(images)
    for channel, start in enumerate((5, 3, 1)):
        sixths = (hue + start).remainder_(6)
        ramp = torch.minimum(sixths, 4 - sixths).clamp_(0, 1)
        torch.addcmul(value, chroma, ramp, value=-1, out=result[:, channel])
    return result


def grey_of(images: Tensor) -> Tensor:
    """(batch, 1, height, width) luma of three channels (ITU-R BT.601); one channel is its own."""
    if images.shape[1] == 1:
        return images
    red, green, blue = images[:, :1], images[:, 1:2], images[:, 2:]
    return torch.add(0.299 * red, green, alpha=0.587).add_(blue, alpha=0.114)


def greyed(images: Tensor, chosen: Tensor) -> Tensor:
    """Images with those of `chosen` (batch,) in grey, the channels alike."""
    return torch.where(_spread(chosen), grey_of(images), images)


def solarised(images: Tensor, chosen: Tensor) -> Tensor:
    """Images with the bright half of the values inverted in those of `chosen` (batch,)."""
    return torch.where(_spread(chosen) & (images >= SOLARISE_FROM), 1 - images, images)


def _spread(numbers: Tensor) -> Tensor:
    """(batch,) beside (batch, channels, height, width)."""
    return numbers[:, None, None, None]
