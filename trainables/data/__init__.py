"""Data sets by name. A new one is a file with `load(config) -> DataSplits` and a line below."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from trainables.config import DataConfig, require_known
from trainables.data import digits, synthetic
from trainables.data.splits import DataSplits, Split

__all__ = ["DATASETS", "DataSplits", "DatasetInfo", "Split", "load_data"]


@dataclass(frozen=True)
class DatasetInfo:
    name: str
    load: Callable[[DataConfig], DataSplits]


DATASETS: dict[str, DatasetInfo] = {
    info.name: info
    for info in (
        DatasetInfo("digits", digits.load),
        DatasetInfo("synthetic", synthetic.load),
    )
}


def load_data(config: DataConfig) -> DataSplits:
    """The data set that `config` names, on the CPU. Raises ConfigError on an unknown name."""
    require_known("data.name", config.name, tuple(DATASETS))
    return DATASETS[config.name].load(config)
