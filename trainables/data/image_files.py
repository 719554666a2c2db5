"""Image files decoded to raw pixels of one shape; what is broken is named."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from torchvision.datasets.folder import pil_loader
from torchvision.transforms import functional

from trainables.config import ConfigError
from trainables.data.stratify import IntArray

PixelArray = npt.NDArray[np.uint8]


class ImageSource(Protocol):
    """Where raw images come from, one by one; pickled into worker processes."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        ...

    def __len__(self) -> int: ...

    def read(self, places: IntArray) -> PixelArray:
        """(len(places), channels, height, width). Raises ConfigError naming a file that cannot be read."""
        ...


@dataclass(frozen=True)
class ImageFiles:
    """Files below a folder; anything but RGB becomes RGB."""

    folder: Path
    paths: npt.NDArray[np.bytes_]  # (items,), below the folder: one block of memory, which workers share
    size: int  # pixels a side
    resize: bool
    """Bring the shorter side to `size` and keep the middle; otherwise a file of another size is an error."""

    @property
    def shape(self) -> tuple[int, int, int]:
        return (3, self.size, self.size)

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, places: IntArray) -> PixelArray:
        images = np.empty((len(places), *self.shape), dtype=np.uint8)
        for index, place in enumerate(places):
            images[index] = _decoded(self.folder / os.fsdecode(self.paths[place]), self.size, self.resize)
        return images

    def stats(self) -> npt.NDArray[np.int64]:
        """(items, 2): bytes and time of the last change, in nanoseconds. Raises ConfigError naming a dead link."""
        found = np.empty((len(self), 2), dtype=np.int64)
        base = os.fsencode(self.folder)
        for index, path in enumerate(self.paths):
            try:
                stat = os.stat(os.path.join(base, path))
            except OSError as error:
                raise ConfigError(
                    f"{self.folder / os.fsdecode(path)} cannot be read ({error.strerror}); replace it or take it out"
                ) from None
            found[index] = stat.st_size, stat.st_mtime_ns
        return found


def files_of(folder: Path, paths: Sequence[str], *, size: int, resize: bool) -> ImageFiles:
    """Files by their paths below a folder."""
    return ImageFiles(folder, np.array([os.fsencode(path) for path in paths]), size, resize)


def listing_digest(files: ImageFiles, columns: Iterable[IntArray]) -> str:
    """sha256 over each file's path below its folder with its row of `columns`, (items,) each, and the shape."""
    digest = hashlib.sha256(f"{files.shape}{files.resize}".encode())
    for path, *row in zip(files.paths, *columns, strict=True):
        digest.update(path + b"\0" + " ".join(str(value) for value in row).encode() + b"\n")
    return digest.hexdigest()


def _decoded(path: Path, size: int, resize: bool) -> Any:
    try:
        image = pil_loader(path)
    except MemoryError:
        raise
    except Exception as error:  # decoders raise anything
        raise ConfigError(f"{path} is no whole image ({error}); replace it or take it out") from None
    if resize:
        image = functional.center_crop(functional.resize(image, size), [size, size])
    elif image.size != (size, size):
        width, height = image.size
        raise ConfigError(f"{path} must have {size}x{size} pixels, but has {width}x{height}")
    return functional.pil_to_tensor(image).numpy()
