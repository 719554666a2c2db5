"""Handwritten digits embedded in scikit-learn: 1,797 grey images of 8x8, values 0 to 16, ten classes."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from trainables.config import ConfigError, DataConfig
from trainables.data.splits import DataSplits, IntArray, cut

CLASSES = 10


@cache
def _raw() -> tuple[npt.NDArray[np.float32], IntArray]:
    """(1797, 1, 8, 8) float32 and (1797,) int64, read-only; kept so that a reused process reads them once."""
    # here, not above: scikit-learn costs over a second of import, and the loop must do without it
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.asarray(digits.images, dtype=np.float32)[:, None]
    labels = np.asarray(digits.target, dtype=np.int64)
    images.setflags(write=False)
    labels.setflags(write=False)
    return images, labels


def load(config: DataConfig) -> DataSplits:
    """Split by `config.split_seed`; at the default fractions 1,077 / 360 / 360 images."""
    if config.options:
        raise ConfigError(f"digits takes no options, but got {sorted(config.options)}")
    return cut(config, *_raw(), classes=CLASSES)
