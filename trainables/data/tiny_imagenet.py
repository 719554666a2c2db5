"""Tiny ImageNet (Stanford CS231n): 200 classes, 100,000 training images of 64x64 and 10,000 for validation.

The test images have no labels, so the published validation images are the test split here, and validation images
come out of the training images. Read as it is unpacked: `wnids.txt`, `train/<wnid>/images`, `val/images` and
`val/val_annotations.txt`; decoded once into one file beside the folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from trainables.config import ConfigError, DataConfig
from trainables.data.options import read_options
from trainables.data.sets import SetFacts, require_files, root_folder

if TYPE_CHECKING:
    from trainables.data.labelled import LabelledImages
    from trainables.data.splits import DataSplits

FOLDER = "tiny-imagenet-200"
SOURCE = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
FILES = ("wnids.txt", "train/", "val/images/", "val/val_annotations.txt")
PUBLISHED = SetFacts(100_000, 10_000, 200, 64, 3)


@dataclass(frozen=True)
class TinyImagenetOptions:
    """`data.options` of the set."""

    verify: bool = True
    """Hold the numbers of classes and images against the published ones."""
    cache: str = ""
    """Folder of the decoded images; by default the one that the data set's folder lies in."""
    workers: int = 0
    """Processes that decode; 0: one a core, 8 at most."""


@dataclass(frozen=True)
class Listing:
    """Files below the folder with their labels: places in the sorted list of wnids."""

    classes: int
    train: tuple[tuple[str, int], ...]
    test: tuple[tuple[str, int], ...]


def facts(config: DataConfig) -> SetFacts:
    """The published sizes; with `verify: false` those of the files."""
    if _options(config).verify:
        return PUBLISHED
    found = _listing(_folder(config))
    return SetFacts(len(found.train), len(found.test), found.classes, PUBLISHED.image_size, PUBLISHED.channels)


def require_present(config: DataConfig) -> None:
    """That the lists and folders are there."""
    _options(config)
    _folder(config)


def load(config: DataConfig) -> DataSplits:
    """Validation images come out of the training images by `config.split_seed`; normalised by what is left."""
    from dataclasses import replace

    from trainables.data.labelled import cut_training_set

    options = _options(config)
    folder = _folder(config)
    found = _listing(folder)
    sizes = (len(found.train), len(found.test), found.classes)
    published = (PUBLISHED.items, PUBLISHED.test_items, PUBLISHED.classes)
    if options.verify and sizes != published:
        raise ConfigError(
            f"{folder} must hold {published[0]} training images, {published[1]} annotated ones and {published[2]} "
            f"classes, but has {sizes[0]}, {sizes[1]} and {sizes[2]}; get it anew from {SOURCE}, or set "
            "data.options.verify=false for a part of it"
        )
    train, test = _read(folder, options.cache, options.workers)
    splits = cut_training_set(config, train, test, classes=found.classes)
    return replace(splits, facts={**splits.facts, "data_verified": options.verify})


def _options(config: DataConfig) -> TinyImagenetOptions:
    return read_options(config, TinyImagenetOptions, {"workers": 0})


def _folder(config: DataConfig) -> Path:
    root = root_folder(config, FOLDER)
    folder = root if root.name == FOLDER else root / FOLDER
    require_files(config, folder, FILES, f"get {SOURCE} and unpack it in {folder.parent}")
    return folder


@lru_cache(maxsize=2)
def _listing(folder: Path) -> Listing:
    """Every image with its label. Raises ConfigError where lists and files do not fit together."""
    wnids = sorted(_text(folder / "wnids.txt").split())
    labels = {wnid: label for label, wnid in enumerate(wnids)}
    if len(labels) < len(wnids):
        twice = next(wnid for place, wnid in enumerate(wnids) if labels[wnid] != place)
        raise ConfigError(f"{folder / 'wnids.txt'} must name each class once, but {twice} stands there twice")
    folders = {entry.name for entry in (folder / "train").iterdir() if entry.is_dir()}
    for wnid in sorted(folders ^ set(labels)):
        where = "wnids.txt" if wnid in folders else "train"
        raise ConfigError(f"{folder / 'wnids.txt'} and the folders in train must agree, but {wnid} is not in {where}")
    train = [
        (f"train/{wnid}/images/{name}", label)
        for wnid, label in labels.items()
        for name in _images(folder / "train" / wnid / "images")
    ]
    return Listing(len(wnids), tuple(train), tuple(_annotated(folder, labels)))


def _annotated(folder: Path, labels: dict[str, int]) -> list[tuple[str, int]]:
    annotations = folder / "val" / "val_annotations.txt"
    present = set(_images(folder / "val" / "images"))
    found: dict[str, int] = {}
    for number, line in enumerate(_text(annotations).splitlines(), start=1):
        # image, wnid, and four sides of a box
        name, wnid, *_ = [*line.split("\t"), ""]
        if wnid not in labels:
            raise ConfigError(f"{annotations} line {number}: {wnid!r} is no class of wnids.txt")
        if name not in present:
            raise ConfigError(f"{annotations} line {number}: {name} is not in val/images")
        if name in found:
            raise ConfigError(f"{annotations} line {number}: {name} stands there twice")
        found[name] = labels[wnid]
    unlabelled = sorted(present - set(found))
    if unlabelled:
        raise ConfigError(f"{annotations} must name every image in val/images, but {unlabelled[0]} is missing there")
    return [(f"val/images/{name}", label) for name, label in sorted(found.items())]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as text ({error}); get it anew from {SOURCE}") from None


def _images(folder: Path) -> list[str]:
    """Their names, sorted. Raises ConfigError where there are none."""
    if not folder.is_dir():
        raise ConfigError(f"{folder} must be a folder of images, but is not there")
    names = sorted(entry.name for entry in folder.iterdir() if entry.suffix.lower() in (".jpeg", ".jpg"))
    if not names:
        raise ConfigError(f"{folder} has no images in it; names must end in .JPEG")
    return names


@lru_cache(maxsize=1)
def _read(folder: Path, cache: str, workers: int) -> tuple[LabelledImages, LabelledImages]:
    """Training and test images, mapped from the file that they are decoded into."""
    import numpy as np

    from trainables.data.decoded import decoded_once
    from trainables.data.image_files import files_of
    from trainables.data.labelled import LabelledImages
    from trainables.data.streaming import worker_count

    found = _listing(folder)
    paths, labels = zip(*found.train, *found.test, strict=True)
    files = files_of(folder, paths, size=PUBLISHED.image_size, resize=False)
    kept = Path(cache).expanduser().absolute() if cache else folder.parent
    images = decoded_once(files, files.stats(), kept, folder.name, worker_count(workers)).mapped()
    truth, border = np.array(labels, dtype=np.int64), len(found.train)
    return LabelledImages(images[:border], truth[:border]), LabelledImages(images[border:], truth[border:])
