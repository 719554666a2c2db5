"""Torch-free tables of the names and sizes that the command line needs before anything heavy is imported.

A test holds every table equal to the real registry in `optim` or `trainables`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class DataFacts:
    """Sizes of a data set: `items` images in all or, where the set ships a test split, those to train on."""

    name: str
    items: int | None  # None: only known once the files are read
    test_items: int | None  # None: split off from `items` by `test_fraction`
    classes: int | None
    image_size: int | None
    summary: str
    augmentations: tuple[str, ...] = ("none",)


@dataclass(frozen=True)
class SplitSizes:
    train: int
    validation: int
    test: int


DATA: Mapping[str, DataFacts] = {
    facts.name: facts
    for facts in (
        DataFacts(
            "digits",
            1797,
            None,
            10,
            8,
            "1,797 handwritten digits, 8x8 grey, embedded in scikit-learn",
            ("none", "shift"),
        ),
        DataFacts("synthetic", None, None, None, None, "learnable random images of any shape, for benchmarks"),
    )
}

MODELS: Mapping[str, str] = {"resnet8": "three residual blocks of width 16, 32, 64; for 8x8 to 32x32 images"}

TASKS: Mapping[str, str] = {"classification": "cross-entropy; searched by validation accuracy"}

INITIALIZATIONS: tuple[str, ...] = (
    "default",
    "xavier_uniform",
    "xavier_normal",
    "kaiming_uniform",
    "kaiming_normal",
)

SAMPLE_NORM_MODES: tuple[str, ...] = ("exact", "subset", "micro_batch")


def split_sizes(items: int, validation_fraction: float, test_fraction: float) -> SplitSizes:
    """How many items each split of a set without a test split of its own holds: fractions are rounded up."""
    # 1e-9: 0.07 * 100 is a hair above 7
    validation = math.ceil(items * validation_fraction - 1e-9)
    test = math.ceil(items * test_fraction - 1e-9)
    return SplitSizes(items - validation - test, validation, test)
