"""Images decoded once into one file of raw pixels, which processes map and share."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trainables.config import ConfigError
from trainables.data.image_files import ImageFiles, PixelArray, listing_digest
from trainables.data.stratify import IntArray
from trainables.data.streaming import Stream

IMAGES_AT_A_TIME = 1024


@dataclass(frozen=True)
class DecodedImages:
    """A source of images that lie decoded in a .npy file."""

    path: Path
    shape: tuple[int, int, int]
    items: int

    def __len__(self) -> int:
        return self.items

    def mapped(self) -> PixelArray:
        """(items, channels, height, width), read from the file as it is touched."""
        array: PixelArray = np.load(self.path, mmap_mode="r", allow_pickle=False)
        return array

    def read(self, places: IntArray) -> PixelArray:
        return self.mapped()[places]


def decoded_once(
    files: ImageFiles, stats: npt.NDArray[np.int64], folder: Path, name: str, workers: int
) -> DecodedImages:
    """The files' images in `<folder>/<name>-<key>.npy`, decoded by worker processes where it is not there.

    The key stands for paths, sizes and times of change (`stats`, from ImageFiles.stats), so changed files are
    decoded anew. Several processes may ask at once: one decodes, the others wait. Raises ConfigError naming a
    file that cannot be decoded, or the folder that cannot be written.
    """
    key = listing_digest(files, stats.T)[:16]
    decoded = DecodedImages(folder / f"{name}-{key}.npy", files.shape, len(files))
    if decoded.path.exists():
        return decoded
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / f".{name}-{key}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not decoded.path.exists():
                _write(files, decoded.path, workers)
    except OSError as error:
        raise ConfigError(
            f"decoded images of {files.folder} cannot be kept in {folder} ({error}); make room for "
            f"{len(files) * int(np.prod(files.shape)) / 1e9:.1f} GB there, or name another folder in data.options.cache"
        ) from None
    return decoded


def _write(files: ImageFiles, path: Path, workers: int) -> None:
    """Whole or not at all: written beside, then renamed."""
    partial = path.with_suffix(".partial")
    stream = Stream(files, workers)
    try:
        with open(partial, "wb") as out:
            header = {"descr": "|u1", "fortran_order": False, "shape": (len(files), *files.shape)}
            np.lib.format.write_array_header_1_0(out, header)
            for images in stream.read(_everything(len(files))):
                out.write(images.numpy().data.cast("B"))
            out.flush()
            os.fsync(out.fileno())
        os.replace(partial, path)
    finally:
        stream.close()
        partial.unlink(missing_ok=True)


def _everything(items: int) -> Iterator[IntArray]:
    for start in range(0, items, IMAGES_AT_A_TIME):
        yield np.arange(start, min(start + IMAGES_AT_A_TIME, items))
