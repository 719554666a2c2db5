"""Colour operations against torchvision, image by image, and the distribution of what is drawn."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision.transforms.v2 import functional

from trainables.augment.colour import (
    JITTER_DRAWS,
    Jitter,
    JitterDraw,
    colour_jitter,
    draw_jitter,
    greyed,
    jittered,
    solarised,
)
from trainables.counter_random import uniforms

OPERATIONS: list[Callable[..., Tensor]] = [
    functional.adjust_brightness,
    functional.adjust_contrast,
    functional.adjust_saturation,
    functional.adjust_hue,
]
COUNT = 48


def one_change(number: int, amounts: Tensor) -> JitterDraw:
    factors = torch.tensor([1.0, 1.0, 1.0, 0.0]).repeat(len(amounts), 1)
    factors[:, number] = amounts
    return JitterDraw(factors, torch.arange(4).expand(len(amounts), 4))


@pytest.mark.parametrize("number", range(4), ids=lambda number: OPERATIONS[number].__name__)
def test_each_change_equals_torchvision(pictures: Callable[..., Tensor], number: int) -> None:
    """1e-4 on floats: torchvision's grey weighs 0.9999 in all. Two grey levels on bytes."""
    images = pictures(COUNT, 3, 12, 12)
    amounts = torch.linspace(-0.5, 0.5, COUNT) if number == 3 else torch.linspace(0, 2, COUNT)
    found = jittered(images / 255, one_change(number, amounts))
    for image, amount, result in zip(images, amounts.tolist(), found, strict=True):
        expected = OPERATIONS[number](image / 255, amount)
        assert (result - expected).abs().max() < (2e-4 if number else 1e-6)
        assert (result * 255 - OPERATIONS[number](image, amount).float()).abs().max() <= 2


def test_each_order_equals_torchvision(pictures: Callable[..., Tensor]) -> None:
    """All 24 in one batch. Strong changes, so that clamping makes orders differ."""
    orders = list(permutations(range(4)))
    images = pictures(1, 3, 12, 12).expand(24, -1, -1, -1) / 255
    factors = torch.tensor([1.6, 1.8, 1.7, 0.21])
    ranks = torch.tensor(orders).argsort(dim=1)
    found = jittered(images, JitterDraw(factors.expand(24, 4), ranks))
    for order, result in zip(orders, found, strict=True):
        expected = images[0]
        for number in order:
            expected = OPERATIONS[number](expected, float(factors[number]))
        torch.testing.assert_close(result, expected, atol=1e-3, rtol=0)
    assert len(found.flatten(1).unique(dim=0)) == 24


def test_one_channel_has_brightness_and_contrast(pictures: Callable[..., Tensor]) -> None:
    images, drawn = pictures(COUNT, 1, 8, 8) / 255, uniforms(2, torch.arange(COUNT), JITTER_DRAWS)
    jitter = Jitter(saturation=0.0, hue=0.0)
    draw = draw_jitter(drawn, jitter)
    found = colour_jitter(images, drawn, jitter)
    for image, factors, ranks, result in zip(images, draw.factors, draw.ranks, found, strict=True):
        expected = image
        for number in ranks[:2].argsort().tolist():
            expected = OPERATIONS[number](expected, float(factors[number]))
        torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)


def test_grey_and_solarised_equal_torchvision(pictures: Callable[..., Tensor]) -> None:
    images, chosen = pictures(COUNT, 3, 12, 12), torch.arange(COUNT) % 3 == 0
    grey, solar = greyed(images / 255, chosen), solarised(images / 255, chosen)
    for image, apply, one, other in zip(images, chosen, grey, solar, strict=True):
        expected = functional.rgb_to_grayscale(image, num_output_channels=3) if apply else image
        assert (one * 255 - expected.float()).abs().max() <= (1.1 if apply else 1e-4)  # bytes are cut off, not rounded
        inverted = functional.solarize(image, 128) if apply else image
        torch.testing.assert_close(other * 255, inverted.float(), atol=1e-4, rtol=0)


def test_what_is_drawn() -> None:
    count = 20_000
    draw = draw_jitter(uniforms(1, torch.arange(count), JITTER_DRAWS), Jitter())
    applied = (draw.factors != torch.tensor([1.0, 1.0, 1.0, 0.0])).any(dim=1)
    assert stats.binomtest(int(applied.sum()), count, 0.8).pvalue > 1e-3
    factors = draw.factors[applied].double().numpy()
    for column, (low, high) in enumerate([(0.6, 1.4), (0.6, 1.4), (0.8, 1.2), (-0.1, 0.1)]):
        assert stats.kstest(factors[:, column], "uniform", (low, high - low)).pvalue > 1e-3
    # independent of each other and of the next image's
    table = np.concatenate([factors[:-1], factors[1:]], axis=1)
    assert np.abs(np.corrcoef(table.T) - np.eye(8)).max() < 0.03
    orders = (draw.ranks * torch.tensor([64, 16, 4, 1])).sum(dim=1).unique(return_counts=True)[1]
    assert len(orders) == 24
    assert stats.chisquare(orders.numpy()).pvalue > 1e-3
