"""Sets that fit into memory: labelled raw images, and how they are cut into splits that lie on the device."""

from __future__ import annotations

import hashlib
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from trainables.config import DataConfig
from trainables.data.normalisation import Normalisation, PixelSums, measured_normalisation, pixel_sums
from trainables.data.splits import DataSplits, ResidentSplit
from trainables.data.stratify import IntArray, SplitIndices, stratified_indices

PixelArray = npt.NDArray[np.uint8]


class LabelledImages:
    """Raw images as files hold them, read-only, with what is worth computing once a process."""

    def __init__(self, images: PixelArray, labels: IntArray) -> None:
        """`images` (items, channels, height, width), perhaps mapped from a file; `labels` (items,)."""
        images.setflags(write=False)
        labels.setflags(write=False)
        self.images = images
        self.labels = labels

    @cached_property
    def digest(self) -> str:
        """sha256 over types, shapes and bytes."""
        return digest_of(self.images, self.labels)

    @cached_property
    def sums(self) -> PixelSums:
        return pixel_sums(self.images)

    def at(self, places: IntArray) -> ResidentSplit:
        """A copy of these images and labels on the CPU."""
        return ResidentSplit(torch.from_numpy(self.images[places]), torch.from_numpy(self.labels[places]))


def digest_of(*arrays: npt.NDArray[np.generic]) -> str:
    """sha256 over types, shapes and bytes: equal digests, equal arrays."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
    return digest.hexdigest()


def content_hash(digests: list[str], indices: SplitIndices) -> str:
    """sha256 over what the set holds, by its digests, and over where each item goes."""
    split = digest_of(indices.train, indices.validation, indices.test)
    return hashlib.sha256(" ".join([*digests, split]).encode()).hexdigest()


def cut(config: DataConfig, raw: LabelledImages, *, classes: int, peak: float = 255.0) -> DataSplits:
    """Split images into three; normalised by the training part.

    `peak` is the raw value of full brightness. Raises ConfigError where a split would be empty or the training
    images are all alike.
    """
    indices = stratified_indices(
        raw.labels,
        validation_fraction=config.validation_fraction,
        test_fraction=config.test_fraction,
        seed=config.split_seed,
    )
    normalisation = measured_normalisation(raw.sums, indices.train, peak, config.name)
    return _splits(config, raw, indices, raw.at(indices.test), classes, normalisation, [raw.digest])


def cut_training_set(config: DataConfig, train: LabelledImages, test: LabelledImages, *, classes: int) -> DataSplits:
    """Split a validation part out of the training images of a set that ships its own test split, left as it is."""
    indices = stratified_indices(
        train.labels, validation_fraction=config.validation_fraction, test_fraction=0.0, seed=config.split_seed
    )
    normalisation = measured_normalisation(train.sums, indices.train, 255.0, config.name)
    held_out = test.at(np.arange(len(test.labels)))
    return _splits(config, train, indices, held_out, classes, normalisation, [train.digest, test.digest])


def _splits(
    config: DataConfig,
    raw: LabelledImages,
    indices: SplitIndices,
    test: ResidentSplit,
    classes: int,
    normalisation: Normalisation,
    digests: list[str],
) -> DataSplits:
    _, channels, height, width = raw.images.shape
    return DataSplits(
        name=config.name,
        train=raw.at(indices.train),
        validation=raw.at(indices.validation),
        test=test,
        classes=classes,
        image_shape=(channels, height, width),
        normalisation=normalisation,
        content_hash=content_hash(digests, indices),
        facts={"data_hash_over": "images"},
    )
