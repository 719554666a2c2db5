"""Blur against torchvision, image by image."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from trainables.augment.blur import blurred


@pytest.mark.parametrize(("channels", "side", "kernel"), [(3, 32, 13), (3, 7, 13), (1, 8, 13), (2, 5, 9), (1, 2, 3)])
def test_equals_torchvision(pictures: Callable[..., Tensor], channels: int, side: int, kernel: int) -> None:
    count = 24
    images = pictures(count, channels, side, side) if side > 4 else torch.randint(0, 256, (count, channels, side, side))
    sigmas, chosen = torch.linspace(0.1, 2.0, count), torch.arange(count) % 4 > 0
    found = blurred(images / 255, sigmas, chosen)
    for image, sigma, apply, result in zip(images / 255, sigmas.tolist(), chosen, found, strict=True):
        expected = functional.gaussian_blur(image, [kernel, kernel], [sigma, sigma]) if apply else image
        torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)


def test_six_pixels_are_enough(pictures: Callable[..., Tensor]) -> None:
    """A wider kernel than three deviations changes less than half a grey level."""
    images = pictures(4, 3, 64, 64)
    found = blurred(images / 255, torch.full((4,), 2.0), torch.ones(4, dtype=torch.bool))
    assert (found - functional.gaussian_blur(images / 255, [31, 31], [2.0, 2.0])).abs().max() < 0.5 / 255
