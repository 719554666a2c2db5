"""Learnable random images of any shape and class count: for tests and benchmarks, without files."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from trainables.config import ConfigError, DataConfig, require_known
from trainables.data.splits import DataSplits, cut


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


def load(config: DataConfig) -> DataSplits:
    """One random pattern a class, plus noise. Raises ConfigError on unknown or illegal options."""
    options = _options(config)
    generator = np.random.default_rng(options.seed)
    shape = (options.channels, options.image_size, options.image_size)
    patterns = generator.standard_normal((options.classes, *shape), dtype=np.float32)
    labels = np.arange(options.items, dtype=np.int64) % options.classes
    noise = generator.standard_normal((options.items, *shape), dtype=np.float32)
    images = patterns[labels] + np.float32(options.noise) * noise
    return cut(config, images, labels, classes=options.classes)


def _options(config: DataConfig) -> SyntheticOptions:
    known = {item.name: item for item in fields(SyntheticOptions)}
    for name, value in config.options.items():
        require_known("an option of synthetic", name, tuple(known))
        lowest = {"noise": 0, "seed": 0, "classes": 2}.get(name, 1)
        whole = name != "noise"
        if isinstance(value, (bool, str)) or (whole and not isinstance(value, int)) or value < lowest:
            kind = "a whole number" if whole else "a number"
            raise ConfigError(f"synthetic's {name} must be {kind} of at least {lowest}, but got {value!r}")
    return SyntheticOptions(**config.options)  # type: ignore[arg-type]  # checked above
