"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): colour images of 32x32, in the python pickle archives as published.

`data.root` holds the unpacked folder or the .tar.gz, which is read where it lies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainables.config import ConfigError, DataConfig
from trainables.data.options import read_options
from trainables.data.sets import SetFacts, require_files, root_folder

if TYPE_CHECKING:
    from trainables.data.splits import DataSplits

HOME_PAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"
IMAGE_SIZE = 32
TRAIN_ITEMS, TEST_ITEMS = 50_000, 10_000


@dataclass(frozen=True)
class CifarOptions:
    """`data.options` of the set."""

    verify: bool = True
    """Hold the files against the published checksums and sizes; false for files in the same format."""


@dataclass(frozen=True)
class Archive:
    """Files as published: their names with their md5."""

    folder: str
    packed: str
    train: Mapping[str, str]
    test: Mapping[str, str]
    meta: Mapping[str, str]
    labels: str  # key of the labels in a batch
    names: str  # key of the class names in the meta file
    classes: int
    downloader: str  # class of torchvision.datasets

    @property
    def files(self) -> Mapping[str, str]:
        return {**self.train, **self.test, **self.meta}


ARCHIVES: Mapping[str, Archive] = {
    "cifar10": Archive(
        folder="cifar-10-batches-py",
        packed="cifar-10-python.tar.gz",
        train={
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        },
        test={"test_batch": "40351d587109b95175f43aff81a1287e"},
        meta={"batches.meta": "5ff9c542aee3614f3951f8cda6e48888"},
        labels="labels",
        names="label_names",
        classes=10,
        downloader="CIFAR10",
    ),
    "cifar100": Archive(
        folder="cifar-100-python",
        packed="cifar-100-python.tar.gz",
        train={"train": "16019d7e3df5f24257cddd939b257f8d"},
        test={"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
        meta={"meta": "7973b15100ade9c7d40fb424638fde48"},
        labels="fine_labels",
        names="fine_label_names",
        classes=100,
        downloader="CIFAR100",
    ),
}


def facts(config: DataConfig) -> SetFacts:
    """The published sizes; with `verify: false` those of the files."""
    archive = ARCHIVES[config.name]
    items = (TRAIN_ITEMS, TEST_ITEMS)
    if not read_options(config, CifarOptions).verify:
        from trainables.data.cifar_files import read_archive

        train, test = read_archive(config.name, _place(config), verify=False)
        items = (len(train.labels), len(test.labels))
    return SetFacts(*items, archive.classes, IMAGE_SIZE, 3)


def require_present(config: DataConfig) -> None:
    """That every file is there, or the archive; fetched where the config says so."""
    read_options(config, CifarOptions)
    _place(config)


def load(config: DataConfig) -> DataSplits:
    """Validation images come out of the training images by `config.split_seed`; the test split is as published."""
    from dataclasses import replace

    from trainables.data.cifar_files import read_archive
    from trainables.data.labelled import cut_training_set

    verify = read_options(config, CifarOptions).verify
    train, test = read_archive(config.name, _place(config), verify=verify)
    splits = cut_training_set(config, train, test, classes=ARCHIVES[config.name].classes)
    return replace(splits, facts={**splits.facts, "data_verified": verify})


def _place(config: DataConfig) -> Path:
    """The folder with every file in it or the packed archive. Raises ConfigError where there is neither."""
    archive = ARCHIVES[config.name]
    root = root_folder(config, archive.folder)
    if root.name == archive.folder:
        root = root.parent
    folder, packed = root / archive.folder, root / archive.packed
    if packed.is_file() and not all((folder / file).exists() for file in archive.files):
        return packed
    source = f"get {archive.packed} from {HOME_PAGE} and put it into {root}, or set data.download=true"
    try:
        require_files(config, folder, list(archive.files), source)
    except ConfigError:
        if not config.download:
            raise
        from trainables.data.download import download_cifar

        download_cifar(archive, root)
        require_files(config, folder, list(archive.files), source)
    return folder
