"""Exact means and deviations, of raw values and of shares."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainables.config import ConfigError
from trainables.data.normalisation import Normalisation, measured_normalisation, pixel_sums


@pytest.mark.parametrize("items", [1, 50, 2500])
def test_sums_give_mean_and_deviation_of_any_part(items: int) -> None:
    generator = np.random.default_rng(items)
    images = generator.integers(0, 256, (items, 3, 4, 5), dtype=np.uint8)
    places = np.flatnonzero(generator.random(items) < 0.7) if items > 1 else np.array([0])
    measured = measured_normalisation(pixel_sums(images), places, 255.0, "any")
    part = images[places].astype(np.float64) / 255
    np.testing.assert_allclose(measured.mean, part.mean(axis=(0, 2, 3)), rtol=1e-14)
    np.testing.assert_allclose(measured.deviation, part.std(axis=(0, 2, 3)), rtol=1e-12)


def test_bright_images_do_not_overflow() -> None:
    images = np.full((3, 1, 300, 300), 255, dtype=np.uint8)
    images[0, 0, 0, 0] = 254
    measured = measured_normalisation(pixel_sums(images), np.arange(3), 255.0, "any")
    assert measured.mean[0] == pytest.approx((270_000 * 255 - 1) / (270_000 * 255), rel=1e-15)
    assert measured.deviation[0] == pytest.approx(np.sqrt((1 / 270_000) * (1 - 1 / 270_000)) / 255, rel=1e-12)


def test_a_flat_channel_is_refused() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 2, 3, 3), dtype=np.uint8)
    images[:, 1] = 77
    with pytest.raises(ConfigError, match="'any' are all alike in channel 1"):
        measured_normalisation(pixel_sums(images), np.arange(5), 255.0, "any")


@pytest.mark.parametrize("peak", [255.0, 16.0])
def test_raw_values_and_shares_mean_the_same(peak: float) -> None:
    normalisation = Normalisation((0.25, 0.5), (0.1, 0.4), peak)
    raw = torch.randint(0, int(peak) + 1, (6, 2, 3, 3), dtype=torch.uint8)
    once = normalisation(raw)
    assert once.dtype == torch.float32
    assert once.is_contiguous(memory_format=torch.channels_last)
    share = raw.double() / peak
    expected = (share - torch.tensor([0.25, 0.5])[:, None, None]) / torch.tensor([0.1, 0.4])[:, None, None].double()
    torch.testing.assert_close(once, expected.float(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(normalisation(share.float()), expected.float(), rtol=1e-5, atol=1e-5)
