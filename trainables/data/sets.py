"""What a data set tells about itself before it is read. Free of numpy and torch, so that plans are made at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainables.config import ConfigError, DataConfig

if TYPE_CHECKING:
    from trainables.data.splits import DataSplits


@dataclass(frozen=True)
class SetFacts:
    """Sizes of a data set as a config chooses it."""

    items: int  # in all or, where the set ships a test split, those to train on
    test_items: int | None  # None: split off from `items` by `test_fraction`
    classes: int
    image_size: int  # pixels a side that the model sees
    channels: int


@dataclass(frozen=True)
class DatasetInfo:
    """One data set. Each function raises ConfigError where options or files are not as they must be."""

    name: str
    load: Callable[[DataConfig], DataSplits]
    facts: Callable[[DataConfig], SetFacts]
    require_present: Callable[[DataConfig], None]
    downloads: bool = False


def needs_no_files(config: DataConfig) -> None:
    """`require_present` of what is embedded or made up."""


def root_folder(config: DataConfig, holds: str) -> Path:
    """`data.root`, absolute. Raises ConfigError where it is not given."""
    if config.root is None:
        raise ConfigError(f"{config.name} needs data.root, the folder that holds {holds}, but none is given")
    return Path(config.root).expanduser().absolute()


def require_files(config: DataConfig, folder: Path, expected: Sequence[str], source: str) -> None:
    """Raise ConfigError unless every expected path is in the folder, as a folder itself where its name ends in a slash.

    `source` says where to get them.
    """
    names = [name.rstrip("/") for name in expected]
    missing = [name for name in names if not (folder / name).exists()]
    if missing:
        absent = "all of it is" if len(missing) == len(names) else f"{', '.join(missing)} is"
        raise ConfigError(f"{config.name} in {folder} must have {', '.join(names)}, but {absent} missing; {source}")
    for name in expected:
        if (folder / name).is_dir() != name.endswith("/"):
            kind, other = ("folder", "file") if name.endswith("/") else ("file", "folder")
            raise ConfigError(f"{folder / name} must be a {kind}, but is a {other}; {source}")
