"""Random resized crops: the boxes against torchvision's algorithm and draws, the pixels against its resize."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import RandomResizedCrop, functional

from trainables.augment.resize import RESIZE_DRAWS, ResizedCrop, draw_boxes, resized, resized_crop
from trainables.counter_random import uniforms


def reference_box(drawn: list[float], height: int, width: int, crop: ResizedCrop) -> tuple[int, int, int, int]:
    """(top, left, height, width) as torchvision finds them, one try after the other, in double precision."""
    widest = math.log(crop.widest)
    for area_number, aspect_number in zip(drawn[:10], drawn[10:20], strict=True):
        area = height * width * (crop.smallest_area + (1 - crop.smallest_area) * area_number)
        aspect = math.exp(-widest + 2 * widest * aspect_number)
        box_width, box_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < box_width <= width and 0 < box_height <= height:
            top, left = int(drawn[20] * (height - box_height + 1)), int(drawn[21] * (width - box_width + 1))
            return top, left, box_height, box_width
    if width / height < 1 / crop.widest:
        box_height, box_width = round(width * crop.widest), width
    elif width / height > crop.widest:
        box_height, box_width = height, round(height * crop.widest)
    else:
        box_height, box_width = height, width
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


def boxes_of(drawn: Tensor, height: int, width: int, crop: ResizedCrop) -> Tensor:
    boxes = draw_boxes(drawn, height, width, crop)
    return torch.stack([boxes.top, boxes.left, boxes.height, boxes.width], dim=1)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 64), (256, 256), (20, 50), (90, 30)])
@pytest.mark.parametrize("crop", [ResizedCrop(), ResizedCrop(smallest_area=0.97, widest=1.2)])
def test_boxes_equal_the_algorithm(height: int, width: int, crop: ResizedCrop) -> None:
    drawn = uniforms(1, torch.arange(3000), RESIZE_DRAWS - 1)
    expected = [reference_box(row, height, width, crop) for row in drawn.double().tolist()]
    found = boxes_of(drawn, height, width, crop)
    # where a side is a hair from a half, float32 may round it the other way
    assert (found != torch.tensor(expected)).any(dim=1).sum() <= 2
    assert (found[:, :2] >= 0).all()
    assert (found[:, :2] + found[:, 2:] <= torch.tensor([height, width])).all()


def test_all_ten_tries_can_fail() -> None:
    """An area of everything with a wide aspect never fits: the fallback is the whole square."""
    drawn = torch.full((1, RESIZE_DRAWS - 1), 0.99)
    assert boxes_of(drawn, 32, 32, ResizedCrop()).tolist() == [[0, 0, 32, 32]]
    drawn[0, [4, 14]] = 0.5
    area, aspect = 0.08 + 0.92 * 0.5, 1.0
    side = round(32 * math.sqrt(area * aspect))
    assert boxes_of(drawn, 32, 32, ResizedCrop())[0, 2:].tolist() == [side, side]


def test_boxes_are_distributed_as_torchvision_draws_them() -> None:
    torch.manual_seed(0)
    image = torch.empty(3, 64, 64)
    theirs = np.array(
        [list(RandomResizedCrop(64).make_params([image]).values())[:4] for _ in range(5000)], dtype=np.float64
    )
    ours = boxes_of(uniforms(2, torch.arange(5000), RESIZE_DRAWS - 1), 64, 64, ResizedCrop()).double().numpy()
    for column in range(4):
        assert stats.ks_2samp(ours[:, column], theirs[:, column]).pvalue > 1e-3
    areas = [boxes[:, 2] * boxes[:, 3] for boxes in (ours, theirs)]
    assert stats.ks_2samp(*areas).pvalue > 1e-3
    # one image's box says nothing of the next one's
    assert abs(np.corrcoef(areas[0][:-1], areas[0][1:])[0, 1]) < 0.05


@pytest.mark.parametrize("bicubic", [False, True])
@pytest.mark.parametrize(("raw", "size"), [(32, 32), (8, 8), (64, 24), (96, 64)])
def test_pixels_equal_torchvision(pictures: Callable[..., Tensor], raw: int, size: int, bicubic: bool) -> None:
    """Same boxes: 2e-6 of full brightness on floats, which torchvision does not clamp; bytes it rounds twice."""
    count, crop = 48, ResizedCrop(bicubic=bicubic)
    images, drawn = pictures(count, 3, raw, raw), uniforms(4, torch.arange(count), RESIZE_DRAWS)
    found = resized_crop(images, drawn, 255.0, size, crop)
    boxes = boxes_of(drawn[:, :-1], raw, raw, crop).int().tolist()
    mode = InterpolationMode.BICUBIC if bicubic else InterpolationMode.BILINEAR
    for image, box, flip, result in zip(images, boxes, drawn[:, -1], found, strict=True):
        for given, peak, tolerance in ((image / 255, 1, 2e-6), (image, 255, 1.1 / 255)):
            crop_given = functional.crop(given, *box)
            narrow = functional.resize(crop_given, [box[2], size], interpolation=mode, antialias=True)
            expected = functional.resize(narrow.clamp(0, peak), [size, size], interpolation=mode, antialias=True)
            expected = functional.horizontal_flip(expected) if flip < 0.5 else expected
            assert (result - expected.float().clamp(0, peak) / peak).abs().max() <= tolerance
            if not bicubic:
                whole = functional.resized_crop(given, *box, [size, size], interpolation=mode, antialias=True)
                whole = functional.horizontal_flip(whole) if flip < 0.5 else whole
                assert (result - whole / peak).abs().max() <= tolerance


def test_peak_is_full_brightness() -> None:
    images = torch.full((3, 1, 8, 8), 16, dtype=torch.uint8)
    boxes = draw_boxes(uniforms(1, torch.arange(3), RESIZE_DRAWS - 1), 8, 8, ResizedCrop())
    found = resized(images, boxes, torch.zeros(3, dtype=torch.bool), 16.0, 8, bicubic=True)
    torch.testing.assert_close(found, torch.ones(3, 1, 8, 8), atol=1e-6, rtol=0)


def test_half_are_mirrored(pictures: Callable[..., Tensor]) -> None:
    """With the whole image as the only crop."""
    count, crop = 2000, ResizedCrop(smallest_area=1.0, widest=1.0)
    images = pictures(1, 1, 6, 6)
    found = resized_crop(images.expand(count, -1, -1, -1), uniforms(5, torch.arange(count), RESIZE_DRAWS), 1.0, 6, crop)
    plain, mirrored = (
        (found - wanted.float().clamp(max=1)).abs().amax(dim=(1, 2, 3)) < 1e-5 for wanted in (images, images.flip(-1))
    )
    assert (plain ^ mirrored).all()
    assert stats.binomtest(int(mirrored.sum()), count).pvalue > 1e-3
