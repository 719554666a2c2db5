"""Handwritten digits embedded in scikit-learn: 1,797 grey images of 8x8, values 0 to 16, ten classes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from trainables.config import DataConfig
from trainables.data.options import read_options
from trainables.data.sets import SetFacts

if TYPE_CHECKING:
    from trainables.data.labelled import LabelledImages
    from trainables.data.splits import DataSplits

ITEMS = 1797
CLASSES = 10
PEAK = 16.0


@dataclass(frozen=True)
class DigitsOptions:
    """None."""


def facts(config: DataConfig) -> SetFacts:
    """Always the same."""
    read_options(config, DigitsOptions)
    return SetFacts(ITEMS, None, CLASSES, 8, 1)


def load(config: DataConfig) -> DataSplits:
    """Split by `config.split_seed`; at the default fractions 1,077 / 360 / 360 images."""
    from trainables.data.labelled import cut

    read_options(config, DigitsOptions)
    return cut(config, _raw(), classes=CLASSES, peak=PEAK)


@cache
def _raw() -> LabelledImages:
    """(1797, 1, 8, 8) images; kept so that a reused process reads them once."""
    # here, not above: scikit-learn costs over a second of import, and the loop must do without it
    import numpy as np
    from sklearn.datasets import load_digits

    from trainables.data.labelled import LabelledImages

    digits = load_digits()
    return LabelledImages(digits.images.astype(np.uint8)[:, None], digits.target.astype(np.int64))
