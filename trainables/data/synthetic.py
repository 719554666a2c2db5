"""Learnable random images of any shape and class count: for tests and benchmarks, without files."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from trainables.config import DataConfig
from trainables.data.options import read_options
from trainables.data.sets import SetFacts

if TYPE_CHECKING:
    from trainables.data.labelled import LabelledImages
    from trainables.data.splits import DataSplits

BANK = 1 << 21  # random values; every pattern and every image's noise is a stretch of them from a place of its own


@dataclass(frozen=True)
class SyntheticOptions:
    """`data.options` of the set."""

    items: int = 500
    classes: int = 4
    image_size: int = 8
    channels: int = 1
    noise: float = 1.0
    """Standard deviation of the noise on class patterns of unit deviation: 0 is trivial, 10 is hard."""
    seed: int = 0
    """Of patterns and noise; the split has its own."""


LOWEST = {"items": 1, "classes": 2, "image_size": 1, "channels": 1, "noise": 0, "seed": 0}


def facts(config: DataConfig) -> SetFacts:
    """As the options say."""
    options = read_options(config, SyntheticOptions, LOWEST)
    return SetFacts(options.items, None, options.classes, options.image_size, options.channels)


def load(config: DataConfig) -> DataSplits:
    """One random pattern a class, plus noise. Raises ConfigError on unknown or illegal options."""
    from trainables.data.labelled import cut

    options = read_options(config, SyntheticOptions, LOWEST)
    return cut(config, _raw(options), classes=options.classes)


@lru_cache(maxsize=2)
def _raw(options: SyntheticOptions) -> LabelledImages:
    """Images in fixed point, from banks of random values: drawing anew for each pixel would take minutes."""
    import numpy as np

    from trainables.data.labelled import LabelledImages

    generator = np.random.default_rng(options.seed)
    shape = (options.channels, options.image_size, options.image_size)
    pixels = int(np.prod(shape))
    # Four deviations to either side of grey fit into a byte.
    spread = 32.0 / max(1.0, options.noise)
    pattern, noise = (
        np.rint(middle + deviation * generator.standard_normal(BANK + pixels, dtype=np.float32)).astype(np.int16)
        for middle, deviation in ((128.0, spread), (0.0, spread * options.noise))
    )
    labels = np.arange(options.items, dtype=np.int64) % options.classes
    pattern_starts = generator.integers(0, BANK, options.classes)
    noise_starts = generator.integers(0, BANK, options.items)
    images = np.empty((options.items, pixels), dtype=np.uint8)
    values = np.empty(pixels, dtype=np.int16)
    for image, label, start in zip(images, labels, noise_starts, strict=True):
        first = pattern_starts[label]
        np.add(pattern[first : first + pixels], noise[start : start + pixels], out=values)
        np.clip(values, 0, 255, out=values)
        image[:] = values
    return LabelledImages(images.reshape(options.items, *shape), labels)
