"""Shifts against a loop over images in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainables.augment import AUGMENTATIONS, build_augmentation, shift
from trainables.config import ConfigError


@pytest.mark.parametrize("shape", [(18, 1, 8, 8), (9, 3, 4, 6)])
def test_shift_equals_numpy(shape: tuple[int, int, int, int]) -> None:
    generator = np.random.default_rng(0)
    images = generator.standard_normal(shape).astype(np.float32)
    offsets = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)] * 2)[: shape[0]]
    shifted = shift(torch.from_numpy(images), torch.from_numpy(offsets), -0.5).numpy()
    _, _, height, width = shape
    for image, (down, right), result in zip(images, offsets, shifted, strict=True):
        expected = np.full_like(image, -0.5)
        for row in range(height):
            for column in range(width):
                if 0 <= row + down < height and 0 <= column + right < width:
                    expected[:, row + down, column + right] = image[:, row, column]
        np.testing.assert_array_equal(result, expected)


def test_shift_draws_every_offset_per_sample() -> None:
    draw = build_augmentation("shift").draw
    offsets = draw(900, torch.Generator().manual_seed(0))
    found, counts = offsets.unique(dim=0, return_counts=True)
    assert found.shape == (9, 2)
    assert offsets.abs().max() == 1
    # nine equally likely: 100 each, deviation 9.4
    assert counts.min() > 60
    assert torch.equal(offsets, draw(900, torch.Generator().manual_seed(0)))


def test_none_keeps() -> None:
    images = torch.randn(3, 1, 2, 2)
    nothing = build_augmentation("none")
    choices = nothing.draw(3, torch.Generator())
    assert torch.equal(nothing.apply(images, choices, 0.0), images)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_keeps_shape_and_input(name: str) -> None:
    augmentation = build_augmentation(name)
    images = torch.randn(7, 2, 5, 5)
    before = images.clone()
    choices = augmentation.draw(7, torch.Generator().manual_seed(1))
    assert augmentation.apply(images, choices, 0.0).shape == images.shape
    assert torch.equal(images, before)


def test_unknown_name() -> None:
    with pytest.raises(ConfigError, match="did you mean 'shift'"):
        build_augmentation("shifts")
