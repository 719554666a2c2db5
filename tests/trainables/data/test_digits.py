"""The embedded digits."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from trainables.config import ConfigError, DataConfig
from trainables.data import load_data
from trainables.data.facts import SetFacts, data_facts, require_present


def test_sizes_and_content() -> None:
    splits = load_data(DataConfig("digits"))
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (1077, 360, 360)
    assert splits.classes == 10
    assert splits.image_shape == (1, 8, 8)
    assert splits.normalisation.peak == 16
    assert splits.train.images.dtype == torch.uint8
    # the same images as scikit-learn's, each once, with their labels
    parts = (splits.train, splits.validation, splits.test)
    images = torch.cat([part.images for part in parts]).numpy().reshape(1797, 64)
    labels = torch.cat([part.labels for part in parts]).numpy()
    bunch = load_digits()
    found = sorted(map(tuple, np.column_stack([images, labels]).tolist()))
    assert found == sorted(map(tuple, np.column_stack([bunch.data, bunch.target]).tolist()))


def test_facts() -> None:
    assert data_facts(DataConfig("digits")) == SetFacts(1797, None, 10, 8, 1)
    require_present(DataConfig("digits"))


def test_hash_is_stable_and_follows_the_split() -> None:
    base = DataConfig("digits")
    assert load_data(base).content_hash == load_data(base).content_hash
    # a change here changes which images every recorded study saw
    assert load_data(base).content_hash.startswith("c1159395d2be61f3")
    other = {load_data(dataclasses.replace(base, split_seed=seed)).content_hash for seed in range(5)}
    assert len(other) == 5


def test_splits_are_fresh_for_every_trial() -> None:
    spoiled = load_data(DataConfig("digits"))
    before = spoiled.train.images.clone()
    spoiled.train.images.zero_()
    assert load_data(DataConfig("digits")).train.images.equal(before)


def test_takes_no_options() -> None:
    with pytest.raises(ConfigError, match="digits takes no options"):
        load_data(DataConfig("digits", options={"items": 3}))


def test_unknown_name() -> None:
    with pytest.raises(ConfigError, match="did you mean 'digits'"):
        load_data(DataConfig("digit"))
