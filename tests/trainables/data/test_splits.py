"""Stratified splits: exact sizes, fair shares, disjoint; hashes that notice every change."""

from __future__ import annotations

import numpy as np
import pytest

from trainables.config import ConfigError, DataConfig
from trainables.data.splits import SplitIndices, content_hash, cut, stratified_indices


@pytest.mark.parametrize("case", range(60))
def test_stratified(case: int) -> None:
    generator = np.random.default_rng(case)
    classes = int(generator.integers(2, 30))
    items = int(generator.integers(60, 800))
    labels = generator.choice(classes, items, p=generator.dirichlet(np.ones(classes))).astype(np.int64)
    validation, test = generator.uniform(0.05, 0.4, 2)
    parts = stratified_indices(labels, validation_fraction=validation, test_fraction=test, seed=case)
    split = (parts.train, parts.validation, parts.test)
    assert len(parts.validation) == np.ceil(items * validation)
    assert len(parts.test) == np.ceil(items * test)
    assert np.array_equal(np.sort(np.concatenate(split)), np.arange(items))
    for part in split:
        proportional = np.bincount(labels, minlength=classes) * len(part) / items
        assert np.abs(np.bincount(labels[part], minlength=classes) - proportional).max() <= 1 + 1e-9


def test_seed_moves_items_and_repeats() -> None:
    labels = np.arange(100) % 5
    once, again, other = (
        stratified_indices(labels, validation_fraction=0.2, test_fraction=0.2, seed=seed) for seed in (1, 1, 2)
    )
    assert np.array_equal(once.test, again.test)
    assert np.array_equal(once.validation, again.validation)
    assert not np.array_equal(once.test, other.test)


def test_empty_split_is_refused() -> None:
    with pytest.raises(ConfigError, match="every split needs at least 1 item, but 2 items give"):
        stratified_indices(np.array([0, 1]), validation_fraction=0.4, test_fraction=0.4, seed=0)


def test_cut_normalises_by_the_training_images() -> None:
    generator = np.random.default_rng(0)
    images = generator.uniform(3, 9, (50, 2, 4, 5)).astype(np.float32)
    labels = np.arange(50) % 3
    splits = cut(DataConfig("any"), images, labels, classes=3)
    train = splits.train.images.numpy().astype(np.float64)
    assert train.mean() == pytest.approx(0, abs=1e-6)
    assert train.std() == pytest.approx(1, abs=1e-6)
    assert splits.image_shape == (2, 4, 5)
    indices = stratified_indices(labels, validation_fraction=0.2, test_fraction=0.2, seed=0)
    reference = images[indices.train]
    expected = (images[indices.test] - reference.mean()) / reference.std()
    np.testing.assert_allclose(splits.test.images.numpy(), expected, atol=1e-5)
    assert splits.background == pytest.approx(-reference.mean() / reference.std(), rel=1e-5)


def test_take_copies() -> None:
    splits = cut(DataConfig("any"), np.random.default_rng(0).random((20, 1, 2, 2), dtype=np.float32),
                 np.arange(20) % 2, classes=2)  # fmt: skip
    images, labels = splits.train.take(splits.train.labels.new_tensor([2, 0]))
    assert images[1].equal(splits.train.images[0])
    assert labels[0] == splits.train.labels[2]
    images.zero_()
    assert splits.train.images.abs().min() > 0


def test_hash_notices_every_change() -> None:
    images = np.zeros((4, 1, 2, 2), np.float32)
    labels = np.array([0, 1, 0, 1])
    indices = SplitIndices(np.array([0, 1]), np.array([2]), np.array([3]))
    changed = images.copy()
    changed[3, 0, 1, 1] = 1e-6
    hashes = [
        content_hash(images, labels, indices),
        content_hash(changed, labels, indices),
        content_hash(images.reshape(4, 2, 1, 2), labels, indices),
        content_hash(images, 1 - labels, indices),
        content_hash(images, labels, SplitIndices(indices.train, indices.test, indices.validation)),
        content_hash(images, labels, SplitIndices(np.array([0]), np.array([1, 2]), np.array([3]))),
    ]
    assert len(set(hashes)) == len(hashes)
    assert content_hash(images.copy(), labels.copy(), indices) == hashes[0]
