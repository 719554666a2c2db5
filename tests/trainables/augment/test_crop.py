"""Crops against torchvision, image by image, and against numpy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision.transforms.v2 import functional

from trainables.augment.crop import centre_crop, crop_flip, cropped, shift, whole
from trainables.counter_random import uniforms


@pytest.mark.parametrize("shape", [(18, 1, 8, 8), (9, 3, 4, 6)])
@pytest.mark.parametrize("padding", [1, 2])
def test_cropped_equals_numpy(shape: tuple[int, int, int, int], padding: int) -> None:
    generator = np.random.default_rng(0)
    images = generator.integers(1, 256, shape).astype(np.uint8)
    corners = generator.integers(0, 2 * padding + 1, (shape[0], 2))
    size = shape[2]
    found = cropped(torch.from_numpy(images), torch.from_numpy(corners), padding, size).numpy()
    for image, (top, left), result in zip(images, corners, found, strict=True):
        padded = np.pad(image, ((0, 0), (padding, padding), (padding, padding)))
        np.testing.assert_array_equal(result, padded[:, top : top + size, left : left + size])


@pytest.mark.parametrize(
    ("raw", "size", "padding"), [(32, 32, 4), (64, 64, 8), (8, 8, 1), (40, 32, 4)], ids=lambda side: str(side)
)
def test_crop_flip_equals_torchvision(pictures: Callable[..., Tensor], raw: int, size: int, padding: int) -> None:
    images, drawn = pictures(64, 3, raw, raw), uniforms(7, torch.arange(64), 3)
    found = crop_flip(images, drawn, size)
    assert found.dtype == torch.uint8
    places = raw + 2 * padding - size + 1
    for image, (vertical, horizontal, flip), result in zip(images, drawn.tolist(), found, strict=True):
        padded = functional.pad(image, [padding])
        expected = functional.crop(padded, int(vertical * places), int(horizontal * places), size, size)
        expected = functional.horizontal_flip(expected) if flip < 0.5 else expected
        assert torch.equal(result, expected)
    assert torch.equal(shift(images, drawn, size)[drawn[:, 2] >= 0.5], found[drawn[:, 2] >= 0.5])


@pytest.mark.parametrize("size", [8, 32])
def test_every_offset_and_flip_is_alike_and_independent(size: int) -> None:
    """Each image's columns and rows are numbered, so that a result shows where it came from."""
    count = 20_000
    image = torch.zeros(1, 2, size, size, dtype=torch.uint8)
    image[0, 0] = torch.arange(1, size + 1)[:, None]
    image[0, 1] = torch.arange(1, size + 1)
    found = crop_flip(image.expand(count, -1, -1, -1), uniforms(3, torch.arange(count), 3), size)
    middle = size // 2
    rows, columns = found[:, 0, middle, middle].long(), found[:, 1, middle]
    mirrored = columns[:, middle] < columns[:, middle - 1]
    lefts = torch.where(mirrored, columns[:, middle - 1], columns[:, middle])
    offsets = 2 * max(1, size // 8) + 1
    ranks = (rows - rows.min()) * offsets + lefts.long() - lefts.min()
    table = torch.bincount(ranks * 2 + mirrored, minlength=2 * offsets**2)
    assert len(table) == 2 * offsets**2
    assert stats.chisquare(table.numpy()).pvalue > 1e-3


def test_no_uniform_number_rounds_up() -> None:
    largest = torch.tensor([1 - 2.0**-24])
    assert all(int(whole(largest, choices)) == choices - 1 for choices in range(1, 5000))


@pytest.mark.parametrize(("raw", "seen"), [(6, 4), (7, 4), (4, 4), (4, 6)])
def test_centre_crop(raw: int, seen: int) -> None:
    images = torch.arange(raw * raw).reshape(1, 1, raw, raw)
    margin = max(0, raw - seen) // 2
    assert torch.equal(centre_crop(images, seen), images[..., margin : margin + seen, margin : margin + seen])
