"""Random resized crops: each image's crop and resize are two small matrices of its own, rows @ image @ columns.

A product with the whole matrix does more arithmetic than a walk over the crop, but it is one batched matrix product,
which keeps the antialiasing filter exact, and a flip costs nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from trainables.augment.crop import whole

TRIES = 10
RESIZE_DRAWS = 2 * TRIES + 3
"""Area and aspect of each try, the corner, the flip."""


@dataclass(frozen=True)
class ResizedCrop:
    """Inception's crop (Szegedy et al., Going deeper with convolutions, 2015, section 6) as torchvision draws it."""

    smallest_area: float = 0.08
    """Share of the image that a crop covers, at least; 1 at most."""
    widest: float = 4 / 3
    """Width / height at most, and height / width at most; even in the logarithm."""
    flip: float = 0.5
    """Probability of mirroring left to right."""
    bicubic: bool = False
    """Else bilinear; both with antialiasing."""


@dataclass(frozen=True)
class Boxes:
    """Where each image is cropped, in whole pixels as float32: (batch,) each."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor


def resized_crop(images: Tensor, uniforms: Tensor, peak: float, size: int, crop: ResizedCrop) -> Tensor:
    """Crop anywhere, at random size and aspect, and resize to (size, size).

    Args:
        images: (batch, channels, height, width) uint8.
        uniforms: (batch, RESIZE_DRAWS) in [0, 1).
        peak: raw value of full brightness.
        size: side length of the result.
        crop: how much may be cut off.

    Returns:
        float32 in [0, 1].
    """
    height, width = images.shape[-2:]
    boxes = draw_boxes(uniforms[:, :-1], height, width, crop)
    return resized(images, boxes, uniforms[:, -1] < crop.flip, peak, size, bicubic=crop.bicubic)


def draw_boxes(uniforms: Tensor, height: int, width: int, crop: ResizedCrop) -> Boxes:
    """From uniforms (batch, RESIZE_DRAWS - 1): the first of ten tries that fits into the image, as torchvision does;
    where none does, the largest box in the middle whose aspect is allowed."""
    area, aspect = uniforms[:, :TRIES], uniforms[:, TRIES : 2 * TRIES]
    area = (crop.smallest_area + (1 - crop.smallest_area) * area) * (height * width)
    log_widest = math.log(crop.widest)
    aspect = torch.exp((2 * aspect - 1) * log_widest)
    widths, heights = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (widths <= width) & (heights <= height) & (widths >= 1) & (heights >= 1)  # (batch, TRIES)
    # the first that fits: the largest of TRIES, ..., 1
    order = torch.arange(TRIES, 0, -1, device=uniforms.device)
    best, first = (fits * order).max(dim=1, keepdim=True)
    found = best[:, 0] > 0
    fallback_width = min(width, round(height * crop.widest))
    fallback_height = min(height, round(width * crop.widest))
    box_width = torch.where(found, widths.gather(1, first)[:, 0], float(fallback_width))
    box_height = torch.where(found, heights.gather(1, first)[:, 0], float(fallback_height))
    top = whole(uniforms[:, -2], height - box_height + 1).float()
    left = whole(uniforms[:, -1], width - box_width + 1).float()
    return Boxes(
        top=torch.where(found, top, float((height - fallback_height) // 2)),
        left=torch.where(found, left, float((width - fallback_width) // 2)),
        height=box_height,
        width=box_width,
    )


def resized(images: Tensor, boxes: Boxes, flip: Tensor, peak: float, size: int, *, bicubic: bool) -> Tensor:
    """Each box of uint8 images, mirrored where `flip` (batch,) says so, at (size, size): float32 in [0, 1]."""
    height, width = images.shape[-2:]
    rows = filter_matrix(boxes.top, boxes.height, height, size, bicubic=bicubic) / peak
    columns = filter_matrix(boxes.left, boxes.width, width, size, bicubic=bicubic)
    columns = torch.where(flip[:, None, None], columns.flip(1), columns)
    # Whole numbers first: they and the weights survive reduced matrix precision (TF32) to an eighth of a grey level.
    narrow = images.float() @ columns.mT[:, None]
    if bicubic:  # overshoots; where images are bytes, as in the published code, each axis is cut off
        narrow.clamp_(0, peak)
    return (rows[:, None] @ narrow).clamp_(0, 1)


def filter_matrix(start: Tensor, length: Tensor, pixels: int, size: int, *, bicubic: bool) -> Tensor:
    """(batch, size, pixels) weights that resize `length` of `pixels`, from `start`, to `size`.

    Pixels outside the crop weigh nothing. Where it shrinks, the filter widens (antialiasing).
    """
    scale = (length / size)[:, None, None]
    centres = (torch.arange(size, device=start.device)[:, None] + 0.5) * scale  # (batch, size, 1)
    places = torch.arange(pixels, device=start.device) - start[:, None, None]  # (batch, 1, pixels)
    distance = ((places + 0.5 - centres) / scale.clamp(min=1)).abs_()
    weights = _cubic(distance) if bicubic else (1 - distance).clamp_(min=0)
    weights = weights * ((places >= 0) & (places < length[:, None, None]))
    return weights / weights.sum(dim=2, keepdim=True)


def _cubic(distance: Tensor) -> Tensor:
    """Keys's cubic convolution kernel with a = -1/2 (1981, equation 15)."""
    near = (1.5 * distance - 2.5) * distance * distance + 1
    far = ((2.5 - 0.5 * distance) * distance - 4) * distance + 2
    return torch.where(distance <= 1, near, torch.where(distance < 2, far, 0.0))
