"""Shifts against a loop over images in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainables.augment import AUGMENTATIONS, build_augmentation, centre_crop
from trainables.augment.basic import moved, shift
from trainables.config import ConfigError
from trainables.counter_random import uniforms


@pytest.mark.parametrize("shape", [(18, 1, 8, 8), (9, 3, 4, 6)])
@pytest.mark.parametrize("padding", [1, 2])
def test_moved_equals_numpy(shape: tuple[int, int, int, int], padding: int) -> None:
    generator = np.random.default_rng(0)
    images = generator.integers(1, 256, shape).astype(np.uint8)
    corners = generator.integers(0, 2 * padding + 1, (shape[0], 2))
    found = moved(torch.from_numpy(images), torch.from_numpy(corners), padding).numpy()
    _, _, height, width = shape
    for image, (top, left), result in zip(images, corners, found, strict=True):
        padded = np.pad(image, ((0, 0), (padding, padding), (padding, padding)))
        np.testing.assert_array_equal(result, padded[:, top : top + height, left : left + width])


def test_shift_draws_every_offset_alike() -> None:
    """An image with one bright pixel in the middle shows where it went."""
    images = torch.zeros(900, 1, 5, 5, dtype=torch.uint8)
    images[:, :, 2, 2] = 9
    shifted = shift(images, uniforms(3, torch.arange(900), 2), 16.0)
    assert shifted.dtype == torch.uint8
    places, counts = shifted.flatten(1).argmax(dim=1).unique(return_counts=True)
    assert places.tolist() == [6, 7, 8, 11, 12, 13, 16, 17, 18]
    # nine equally likely: 100 each, deviation 9.4
    assert counts.min() > 60


def test_none_keeps() -> None:
    images = torch.randint(0, 256, (3, 1, 2, 2), dtype=torch.uint8)
    (view,) = build_augmentation("none", image_size=2).views
    assert torch.equal(view(images, torch.empty(3, 0), 255.0), images)


@pytest.mark.parametrize(("raw", "seen"), [(6, 4), (7, 4), (4, 4), (4, 6)])
def test_centre_crop(raw: int, seen: int) -> None:
    images = torch.arange(raw * raw).reshape(1, 1, raw, raw)
    margin = max(0, raw - seen) // 2
    assert torch.equal(centre_crop(images, seen), images[..., margin : margin + seen, margin : margin + seen])


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_keeps_input_and_gives_the_size_that_the_model_sees(name: str) -> None:
    augmentation = build_augmentation(name, image_size=8)
    images = torch.randint(0, 256, (7, 3, 8, 8), dtype=torch.uint8)
    before = images.clone()
    for view in augmentation.views:
        found = view(images, uniforms(1, torch.arange(7), augmentation.draws), 255.0)
        assert found.shape == images.shape
        assert found.dtype in (torch.uint8, torch.float32)
    assert torch.equal(images, before)


def test_unknown_name() -> None:
    with pytest.raises(ConfigError, match="did you mean 'shift'"):
        build_augmentation("shifts", image_size=8)
