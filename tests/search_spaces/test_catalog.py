"""The torch-free tables say what the real registries hold."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from optim.registry import ARMS
from optim.sample_norms.recorder import MODES
from search_spaces import ARM_SPACES
from search_spaces.catalog import (
    AUGMENTATIONS,
    DATA,
    INITIALIZATIONS,
    MODELS,
    SAMPLE_NORM_MODES,
    TASK_VIEWS,
    TASKS,
    DataFacts,
    SplitSizes,
    split_sizes,
)
from trainables import augment, initialization, models, tasks
from trainables.config import DataConfig
from trainables.counter_random import uniforms
from trainables.data import DATASETS
from trainables.data.facts import data_facts
from trainables.data.stratify import stratified_indices


def test_tables_equal_the_registries() -> None:
    assert set(ARM_SPACES) == set(ARMS)
    assert set(MODELS) == set(models.MODELS)
    assert set(DATA) == set(DATASETS)
    assert set(TASKS) == set(tasks.TASKS)
    assert set(INITIALIZATIONS) == set(initialization.INITIALIZATIONS)
    assert set(SAMPLE_NORM_MODES) == set(MODES)


def test_tables_are_keyed_by_their_own_names() -> None:
    assert all(name == facts.name for name, facts in DATA.items())
    assert len(set(INITIALIZATIONS)) == len(INITIALIZATIONS)


def test_augmentations_are_the_registry_s() -> None:
    assert list(AUGMENTATIONS) == list(augment.AUGMENTATIONS)
    for name, facts in AUGMENTATIONS.items():
        built = augment.AUGMENTATIONS[name](8)
        assert (facts.views, facts.channels) == (len(built.views), built.channels), name


@pytest.mark.parametrize("facts", DATA.values(), ids=lambda facts: facts.name)
def test_a_set_offers_augmentations_that_fit_its_images(facts: DataFacts) -> None:
    """And one for every task."""
    views = {AUGMENTATIONS[name].views for name in facts.augmentations}
    assert views == set(TASK_VIEWS.values())
    if facts.items is not None:
        found = data_facts(DataConfig(facts.name))
        for name in facts.augmentations:
            augment.build_augmentation(name, image_shape=(found.channels, found.image_size, found.image_size))


def test_no_digit_is_mirrored() -> None:
    """What is bright on the left alone, and too dark to be solarised, never is brighter on the right."""
    images = torch.zeros(500, 1, 8, 8, dtype=torch.uint8)
    images[..., :4] = 5
    for name in DATA["digits"].augmentations:
        augmentation = augment.build_augmentation(name, image_shape=(1, 8, 8))
        for view in augmentation.views:
            seen = view(images, uniforms(1, torch.arange(500), augmentation.draws), 16.0).float()[:, 0, 4]
            assert (seen[:, 1] >= seen[:, -1]).all()
            assert (seen[:, 1] > seen[:, -1]).any()


def test_views_of_tasks() -> None:
    assert set(TASK_VIEWS) == set(TASKS)
    for name, views in TASK_VIEWS.items():
        assert tasks.build_task(name, tasks.TaskFacts(classes=10)).views == views


def _sized() -> list[DataFacts]:
    return [facts for facts in DATA.values() if facts.items is not None]


@pytest.mark.parametrize("facts", _sized(), ids=lambda facts: facts.name)
def test_sizes_are_what_the_data_set_gives(facts: DataFacts) -> None:
    found = data_facts(DataConfig(facts.name))
    assert (found.items, found.test_items, found.classes, found.image_size) == (
        facts.items,
        facts.test_items,
        facts.classes,
        facts.image_size,
    )
    assert facts.ships_test == (found.test_items is not None)


def test_split_sizes() -> None:
    assert split_sizes(1797, 0.2, 0.2) == SplitSizes(1077, 360, 360)
    assert split_sizes(50_000, 0.1, 0.2, test_items=10_000) == SplitSizes(45_000, 5_000, 10_000)


@pytest.mark.parametrize("items", [50, 100, 1797, 60_000])
def test_sizes_are_rounded_as_the_splitter_rounds(items: int) -> None:
    # 0.07 * 100 is a hair above 7 in binary
    labels = np.arange(items) % 5
    for fraction in (0.07, 0.1, 0.14, 0.2, 0.28, 0.29, 0.333):
        cut = stratified_indices(labels, validation_fraction=fraction, test_fraction=0.2, seed=0)
        expected = SplitSizes(len(cut.train), len(cut.validation), len(cut.test))
        assert split_sizes(items, fraction, 0.2) == expected, fraction
