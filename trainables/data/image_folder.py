"""Any images in ImageNet's layout: `train/<class>/...` and `val/<class>/...` with equal class lists.

`val` is the test split, since it is all that ImageNet publishes labels for; validation images come out of `train`.
Too large to lie on the device: worker processes decode, or read what was decoded once into one file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from trainables.config import ConfigError, DataConfig
from trainables.data.options import read_options
from trainables.data.sets import SetFacts, require_files, root_folder

if TYPE_CHECKING:
    from trainables.data.image_files import ImageSource
    from trainables.data.splits import DataSplits
    from trainables.data.stratify import IntArray

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
IMAGENET = (1000, 1_281_167, 50_000)  # classes, training and validation images of ILSVRC 2012
# Of ImageNet's training images, as used everywhere.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ImageFolderOptions:
    """`data.options` of the set."""

    image_size: int = 224
    """Pixels a side that the model sees."""
    load_size: int = 256
    """Pixels a side of the raw images: the shorter side is brought to it and the middle kept; augmentation crops."""
    cache: str = ""
    """Folder where decoded images are kept, load_size^2 * 3 bytes each; by default they are decoded every time."""
    workers: int = 0
    """Processes that decode; 0: one a core, 8 at most."""


def facts(config: DataConfig) -> SetFacts:
    """As counted in the folders."""
    options = _options(config)
    root = _root(config)
    classes, train, test = _counts(root)
    return SetFacts(train, test, classes, options.image_size, 3)


def imagenet_facts(config: DataConfig) -> SetFacts:
    """As published, so that a plan needs no files; `load` holds the folders to it."""
    classes, train, test = IMAGENET
    return SetFacts(train, test, classes, _options(config).image_size, 3)


def require_present(config: DataConfig) -> None:
    """That both folders are there and have the same classes."""
    _options(config)
    classes = len(_classes(_root(config)))
    if config.name == "imagenet" and classes != IMAGENET[0]:
        raise ConfigError(
            f"imagenet must have {IMAGENET[0]} classes, but {_root(config)} has {classes}; other images in its layout "
            "are data.name image_folder"
        )


def load(config: DataConfig) -> DataSplits:
    """Streaming splits, normalised by ImageNet's mean and deviation; close them when done."""
    import numpy as np
    import torch

    from trainables.data.labelled import content_hash
    from trainables.data.normalisation import Normalisation
    from trainables.data.splits import DataSplits
    from trainables.data.stratify import stratified_indices
    from trainables.data.streaming import Stream, StreamingSplit, worker_count

    options = _options(config)
    root = _root(config)
    classes = len(_classes(root))
    if config.name == "imagenet" and _counts(root) != IMAGENET:
        raise ConfigError(
            f"imagenet must have (classes, training, validation images) = {IMAGENET}, but {root} has {_counts(root)}; "
            "restore the missing files, or name it image_folder"
        )
    source, labels, border, digest = _read(root, options)
    indices = stratified_indices(
        labels[:border], validation_fraction=config.validation_fraction, test_fraction=0.0, seed=config.split_seed
    )
    stream = Stream(source, worker_count(options.workers))
    train, validation, test = (
        StreamingSplit(stream, torch.from_numpy(places), torch.from_numpy(labels[places]))
        for places in (indices.train, indices.validation, np.arange(border, len(labels)))
    )
    return DataSplits(
        name=config.name,
        train=train,
        validation=validation,
        test=test,
        classes=classes,
        image_shape=(3, options.image_size, options.image_size),
        normalisation=Normalisation(MEAN, DEVIATION),
        content_hash=content_hash([digest], indices),
        facts={"data_hash_over": "files"},
    )


def _options(config: DataConfig) -> ImageFolderOptions:
    options = read_options(config, ImageFolderOptions, {"image_size": 1, "load_size": 1, "workers": 0})
    if options.load_size < options.image_size:
        raise ConfigError(
            "image_folder: image_size <= load_size must hold, but got "
            f"(image_size={options.image_size}, load_size={options.load_size})"
        )
    return options


def _root(config: DataConfig) -> Path:
    root = root_folder(config, "the folders train and val")
    require_files(config, root, ("train/", "val/"), "each holds a folder of images for every class, as ImageNet does")
    return root


def _classes(root: Path) -> list[str]:
    """Sorted. Raises ConfigError where the two folders differ or there are fewer than two."""
    train, test = ({entry.name for entry in (root / part).iterdir() if entry.is_dir()} for part in ("train", "val"))
    for name in sorted(train ^ test):
        where = ("train", "val") if name in train else ("val", "train")
        raise ConfigError(f"{root}: train and val must have the same classes, but {name} is only in {where[0]}")
    if len(train) < 2:
        raise ConfigError(f"{root / 'train'} must have a folder for each of two or more classes, but has {len(train)}")
    return sorted(train)


def _paths(root: Path, part: str, name: str) -> Iterator[str]:
    """Images of one class below `root`, sorted. Raises ConfigError where there are none."""
    any_found = False
    for folder, _, files in sorted(os.walk(root / part / name, followlinks=True)):
        for file in sorted(files):
            if file.lower().endswith(SUFFIXES):
                any_found = True
                yield os.path.relpath(os.path.join(folder, file), root)
    if not any_found:
        raise ConfigError(f"{root / part / name} has no images in it; names must end in {', '.join(SUFFIXES)}")


@lru_cache(maxsize=8)
def _counts(root: Path) -> tuple[int, int, int]:
    """Classes, training images, test images."""
    classes = _classes(root)
    train, test = (sum(1 for name in classes for _ in _paths(root, part, name)) for part in ("train", "val"))
    return len(classes), train, test


@lru_cache(maxsize=2)
def _read(root: Path, options: ImageFolderOptions) -> tuple[ImageSource, IntArray, int, str]:
    """All images, training ones first; their labels; how many train; a hash over paths, bytes and labels."""
    import numpy as np

    from trainables.data.decoded import decoded_once
    from trainables.data.image_files import files_of, listing_digest
    from trainables.data.streaming import worker_count

    classes = _classes(root)
    listed: list[tuple[str, int]] = []
    borders = []
    for part in ("train", "val"):
        listed += [(path, label) for label, name in enumerate(classes) for path in _paths(root, part, name)]
        borders.append(len(listed))
    files = files_of(root, [path for path, _ in listed], size=options.load_size, resize=True)
    labels = np.array([label for _, label in listed], dtype=np.int64)
    stats = files.stats()
    digest = listing_digest(files, [stats[:, 0], labels])
    if not options.cache:
        return files, labels, borders[0], digest
    kept = Path(options.cache).expanduser().absolute()
    name = f"{root.name}-{options.load_size}"
    return decoded_once(files, stats, kept, name, worker_count(options.workers)), labels, borders[0], digest
