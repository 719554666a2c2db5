"""Stratified splits: exact sizes, fair shares, disjoint."""

from __future__ import annotations

import numpy as np
import pytest

from trainables.config import ConfigError
from trainables.data.stratify import stratified_indices


@pytest.mark.parametrize("case", range(60))
def test_stratified(case: int) -> None:
    generator = np.random.default_rng(case)
    classes = int(generator.integers(2, 30))
    items = int(generator.integers(60, 800))
    labels = generator.choice(classes, items, p=generator.dirichlet(np.ones(classes))).astype(np.int64)
    validation, test = generator.uniform(0.05, 0.4, 2)
    test = 0.0 if case % 4 == 0 else test  # a set that ships its own
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
