"""The seam between data sets and the loop: three splits of raw images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from trainables.config import Scalar
from trainables.data.normalisation import Normalisation


class Split(Protocol):
    """Labelled images, raw: what the files hold, before augmentation and normalisation."""

    def __len__(self) -> int: ...

    @property
    def labels(self) -> Tensor:
        """(items,) int64, on the CPU."""
        ...

    def batches(self, chunks: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """For each chunk of places (int64) its images (len, C, H, W) uint8 and labels (len,) int64, on the device."""
        ...

    def to(self, device: torch.device) -> Split:
        """The same split, giving out its batches on `device`."""
        ...

    def close(self) -> None:
        """End what works in the background."""
        ...


@dataclass(frozen=True)
class ResidentSplit:
    """A split that lies on the device as a whole."""

    images: Tensor  # (items, channels, height, width) uint8, on the device
    labels: Tensor  # (items,) int64, on the CPU
    _near: Tensor = field(init=False, repr=False)  # the labels beside the images

    def __post_init__(self) -> None:
        object.__setattr__(self, "_near", self.labels.to(self.images.device))

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, chunks: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Copies of the images and labels at each chunk's places."""
        for chunk in chunks:
            places = chunk.to(self.images.device, non_blocking=True)
            yield self.images[places], self._near[places]

    def to(self, device: torch.device) -> ResidentSplit:
        return ResidentSplit(self.images.to(device), self.labels)

    def close(self) -> None:
        """Nothing works in the background."""


@dataclass(frozen=True)
class DataSplits:
    """A data set, cut."""

    name: str
    train: Split
    validation: Split
    test: Split
    classes: int
    image_shape: tuple[int, int, int]  # (channels, height, width) that the model sees
    normalisation: Normalisation
    content_hash: str  # sha256 over what the set holds and where each item goes
    facts: Mapping[str, Scalar] = field(default_factory=dict)
    """What else goes with every trial: data_hash_over (`images`, or `files` for their list with sizes and labels),
    data_verified where the set can be held against published sizes and checksums."""

    def to(self, device: torch.device) -> DataSplits:
        """The same splits, giving out their batches on `device`."""
        return replace(
            self, train=self.train.to(device), validation=self.validation.to(device), test=self.test.to(device)
        )

    def close(self) -> None:
        """End what works in the background."""
        for split in (self.train, self.validation, self.test):
            split.close()
