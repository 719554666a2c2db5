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

NOISE_BANK = 1 << 21  # values; every image takes its noise from a place of its own in it
IMAGES_AT_A_TIME = 256


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
    """Images in fixed point, from a bank of noise: drawing it anew for each pixel would take minutes at full size."""
    import numpy as np

    from trainables.data.labelled import LabelledImages

    generator = np.random.default_rng(options.seed)
    shape = (options.channels, options.image_size, options.image_size)
    pixels = int(np.prod(shape))
    # Four deviations to either side of grey fit into a byte.
    spread = 32.0 / max(1.0, options.noise)
    patterns = np.rint(128.0 + spread * generator.standard_normal((options.classes, pixels))).astype(np.int16)
    bank = generator.standard_normal(NOISE_BANK + pixels, dtype=np.float32)
    noise = np.rint(spread * options.noise * bank).astype(np.int16)
    windows = np.lib.stride_tricks.sliding_window_view(noise, pixels)
    labels = np.arange(options.items, dtype=np.int64) % options.classes
    places = generator.integers(0, NOISE_BANK, options.items)
    images = np.empty((options.items, pixels), dtype=np.uint8)
    for start in range(0, options.items, IMAGES_AT_A_TIME):
        part = slice(start, start + IMAGES_AT_A_TIME)
        values = windows[places[part]]
        values += patterns[labels[part]]
        images[part] = np.clip(values, 0, 255, out=values)
    return LabelledImages(images.reshape(options.items, *shape), labels)
