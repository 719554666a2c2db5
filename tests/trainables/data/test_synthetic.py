"""Synthetic images: any shape, learnable, repeatable."""

from __future__ import annotations

import numpy as np
import pytest

from trainables.config import ConfigError, DataConfig
from trainables.data import load_data
from trainables.data.facts import SetFacts, data_facts
from trainables.data.splits import DataSplits


def load(**options: float | int) -> DataSplits:
    return load_data(DataConfig("synthetic", options=options))


def test_any_shape() -> None:
    options = {"items": 101, "classes": 7, "image_size": 5, "channels": 3}
    splits = load(**options)
    assert splits.train.images.shape == (59, 3, 5, 5)
    assert (len(splits.validation), len(splits.test), splits.classes) == (21, 21, 7)
    assert set(splits.train.labels.tolist()) == set(range(7))
    assert data_facts(DataConfig("synthetic", options=options)) == SetFacts(101, None, 7, 5, 3)


def test_learnable() -> None:
    splits = load(items=400, noise=1.0)
    images, labels = splits.train.images.flatten(1).numpy(), splits.train.labels.numpy()
    centres = np.stack([images[labels == label].mean(axis=0) for label in range(4)])
    test = splits.test.images.flatten(1).numpy()
    nearest = ((test[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest == splits.test.labels.numpy()).mean() > 0.95


@pytest.mark.parametrize("noise", [0.5, 1.0, 3.0])
def test_noise_is_what_the_option_says(noise: float) -> None:
    splits = load(items=3000, classes=2, image_size=16, noise=noise)
    images, labels = splits.train.images.flatten(1).double().numpy(), splits.train.labels.numpy()
    first = images[labels == 0]
    within, between = first.std(axis=0).mean(), first.mean(axis=0).std()
    # the byte clips and rounds a little
    assert within / between == pytest.approx(noise, rel=0.1)
    # no two images share their noise, and neighbours are not alike
    assert len({image.tobytes() for image in images}) == len(images)
    rest = (first - first.mean(axis=0)) / first.std(axis=0)
    assert abs((rest[:-1] * rest[1:]).mean()) < 0.02


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
        ({"seed": "x"}, "seed must be a whole number of at least 0, but got 'x'"),
    ],
)
def test_refuses(options: dict[str, float], message: str) -> None:
    for ask in (load_data, data_facts):
        with pytest.raises(ConfigError, match=message):
            ask(DataConfig("synthetic", options=options))
