"""The seam between data sets and the loop: three splits of tensors, and how to cut them deterministically."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainables.config import ConfigError, DataConfig

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Labelled images. A set that streams gives the loop an object with the same two methods."""

    images: Tensor  # (items, channels, height, width) float32, normalised
    labels: Tensor  # (items,) int64

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Copies of the images and labels at `indices` (int64, on the split's device)."""
        return self.images[indices], self.labels[indices]


@dataclass(frozen=True)
class DataSplits:
    """A data set, cut and normalised by its training images."""

    name: str
    train: Split
    validation: Split
    test: Split
    classes: int
    image_shape: tuple[int, int, int]  # (channels, height, width)
    background: float  # what a raw zero is after normalisation: the padding of shifted images
    content_hash: str  # sha256 over images, labels and split

    def to(self, device: torch.device) -> DataSplits:
        """The same splits on `device`."""

        def move(split: Split) -> Split:
            return Split(split.images.to(device), split.labels.to(device))

        return replace(self, train=move(self.train), validation=move(self.validation), test=move(self.test))


@dataclass(frozen=True)
class SplitIndices:
    """Where each item goes; sorted, disjoint, together everything."""

    train: IntArray
    validation: IntArray
    test: IntArray


def stratified_indices(
    labels: IntArray, *, validation_fraction: float, test_fraction: float, seed: int
) -> SplitIndices:
    """Cut items into train, validation and test with every class's share within one item of proportional.

    Sizes are exact: validation and test take `ceil(items * fraction)`, train takes the rest. `labels` is
    (items,). Raises ConfigError where a split would be empty.
    """
    items = len(labels)
    # 1e-9: 0.07 * 100 is a hair above 7
    held_out = [math.ceil(items * fraction - 1e-9) for fraction in (validation_fraction, test_fraction)]
    sizes = np.array([items - sum(held_out), *held_out])
    if sizes.min() < 1:
        raise ConfigError(f"every split needs at least 1 item, but {items} items give sizes {sizes.tolist()}")
    classes, inverse = np.unique(labels, return_inverse=True)
    shares = _controlled_rounding(np.bincount(inverse), sizes)
    generator = np.random.default_rng(seed)
    parts: list[list[IntArray]] = [[], [], []]
    for index in range(len(classes)):
        members = generator.permutation(np.flatnonzero(inverse == index))
        for part, chunk in zip(parts, np.split(members, np.cumsum(shares[index])[:-1]), strict=True):
            part.append(chunk)
    train, validation, test = (np.sort(np.concatenate(part)) for part in parts)
    return SplitIndices(train, validation, test)


def _controlled_rounding(rows: IntArray, columns: IntArray) -> IntArray:
    """Integers with these row and column sums, each at most one away from rows x columns / total.

    Everyone gets the floor; a row's leftover items go to the columns that lack most, the rule by which Gale
    and Ryser fill a 0-1 matrix, so it never runs dry.
    """
    shares = np.outer(rows, columns) // columns.sum()
    lacking = columns - shares.sum(axis=0)
    for row, leftover in enumerate(rows - shares.sum(axis=1)):
        chosen = np.argsort(-lacking, kind="stable")[:leftover]
        shares[row, chosen] += 1
        lacking[chosen] -= 1
    return np.asarray(shares, dtype=np.int64)


def cut(config: DataConfig, images: npt.NDArray[np.float32], labels: IntArray, *, classes: int) -> DataSplits:
    """Split (items, channels, height, width) images, normalise by the training part's mean and deviation."""
    indices = stratified_indices(
        labels,
        validation_fraction=config.validation_fraction,
        test_fraction=config.test_fraction,
        seed=config.split_seed,
    )
    train_images = images[indices.train].astype(np.float64)
    mean, deviation = float(train_images.mean()), float(train_images.std())
    if deviation == 0.0:
        raise ConfigError(f"the training images of {config.name!r} are all alike: nothing to learn")
    normalised = ((images - mean) / deviation).astype(np.float32)

    def part(where: IntArray) -> Split:
        return Split(torch.from_numpy(normalised[where]), torch.from_numpy(labels[where]))

    return DataSplits(
        name=config.name,
        train=part(indices.train),
        validation=part(indices.validation),
        test=part(indices.test),
        classes=classes,
        image_shape=(images.shape[1], images.shape[2], images.shape[3]),
        background=-mean / deviation,
        content_hash=content_hash(images, labels, indices),
    )


def content_hash(images: npt.NDArray[np.float32], labels: IntArray, indices: SplitIndices) -> str:
    """sha256 over types, shapes and bytes of raw images, labels and split: equal hashes, equal data."""
    digest = hashlib.sha256()
    for array in (images, labels, indices.train, indices.validation, indices.test):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
