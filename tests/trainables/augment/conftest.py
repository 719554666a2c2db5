"""Pictures with edges, flats and colour, for comparing augmentations image by image."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

Pictures = Callable[..., Tensor]


@pytest.fixture
def pictures() -> Pictures:
    def make(count: int, *shape: int, peak: int = 255, seed: int = 0) -> Tensor:
        """(count, *shape) uint8: noise, smoothed in every second image, with a black and a full corner."""
        generator = torch.Generator().manual_seed(seed)
        images = torch.randint(0, peak + 1, (count, *shape), dtype=torch.uint8, generator=generator)
        images[::2] = functional.gaussian_blur(images[::2], [5, 5], [1.5, 1.5])
        images[..., :2, :3] = 0
        images[..., -3:, -2:] = peak
        return images

    return make
