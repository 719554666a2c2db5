"""Data sets by name. A new one is a file with `load`, `facts` and `require_present`, and a line below.

Nothing here imports numpy or torch before a set is loaded: plans are made from sizes alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainables.config import ConfigError, DataConfig, require_known
from trainables.data import cifar, digits, image_folder, synthetic, tiny_imagenet
from trainables.data.sets import DatasetInfo, needs_no_files

if TYPE_CHECKING:
    from trainables.data.splits import DataSplits

__all__ = ["DATASETS", "DatasetInfo", "known_set", "load_data"]

DATASETS: dict[str, DatasetInfo] = {
    info.name: info
    for info in (
        DatasetInfo("digits", digits.load, digits.facts, needs_no_files),
        DatasetInfo("cifar10", cifar.load, cifar.facts, cifar.require_present, downloads=True),
        DatasetInfo("cifar100", cifar.load, cifar.facts, cifar.require_present, downloads=True),
        DatasetInfo("tiny_imagenet", tiny_imagenet.load, tiny_imagenet.facts, tiny_imagenet.require_present),
        DatasetInfo("image_folder", image_folder.load, image_folder.facts, image_folder.require_present),
        DatasetInfo("imagenet", image_folder.load, image_folder.imagenet_facts, image_folder.require_present),
        DatasetInfo("synthetic", synthetic.load, synthetic.facts, needs_no_files),
    )
}


def load_data(config: DataConfig) -> DataSplits:
    """The data set that `config` names, giving out its batches on the CPU; close it when done.

    Raises ConfigError: an unknown name, illegal options, files that are missing or broken.
    """
    return known_set(config).load(config)


def known_set(config: DataConfig) -> DatasetInfo:
    """The set's line of the table. Raises ConfigError on an unknown name, or a download that there is none of."""
    require_known("data.name", config.name, tuple(DATASETS))
    info = DATASETS[config.name]
    if config.download and not info.downloads:
        able = ", ".join(other.name for other in DATASETS.values() if other.downloads)
        raise ConfigError(f"data.download is there for {able}, but not for {config.name}; leave it out")
    return info
