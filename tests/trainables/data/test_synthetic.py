"""Synthetic images: any shape, learnable, repeatable."""

from __future__ import annotations

import numpy as np
import pytest

from trainables.config import ConfigError, DataConfig
from trainables.data import DataSplits, load_data


def load(**options: float | int) -> DataSplits:
    return load_data(DataConfig("synthetic", options=options))


def test_any_shape() -> None:
    splits = load(items=101, classes=7, image_size=5, channels=3)
    assert splits.train.images.shape == (59, 3, 5, 5)
    assert (len(splits.validation), len(splits.test), splits.classes) == (21, 21, 7)
    assert set(splits.train.labels.tolist()) == set(range(7))


def test_learnable() -> None:
    splits = load(items=400, noise=1.0)
    images, labels = splits.train.images.flatten(1).numpy(), splits.train.labels.numpy()
    centres = np.stack([images[labels == label].mean(axis=0) for label in range(4)])
    test = splits.test.images.flatten(1).numpy()
    nearest = ((test[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == splits.test.labels.numpy()).mean() > 0.95


def test_noise_and_seed_matter() -> None:
    hashes = {load(**options).content_hash for options in ({}, {"noise": 2.0}, {"seed": 1}, {"noise": 0})}
    assert len(hashes) == 4
    assert load().content_hash == load().content_hash


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"item": 3}, "did you mean 'items'"),
        ({"items": 2.5}, "items must be a whole number of at least 1, but got 2.5"),
        ({"classes": 1}, "classes must be a whole number of at least 2"),
        ({"noise": -1.0}, "noise must be a number of at least 0"),
        ({"channels": True}, "channels must be"),
    ],
)
def test_refuses(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(**options)
