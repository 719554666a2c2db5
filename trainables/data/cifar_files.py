"""Reading the CIFAR pickles: checksum first, then an unpickler that knows arrays and plain values alone."""

from __future__ import annotations

import hashlib
import io
import pickle
import tarfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from trainables.config import ConfigError
from trainables.data.cifar import ARCHIVES, IMAGE_SIZE, TEST_ITEMS, TRAIN_ITEMS, Archive
from trainables.data.labelled import LabelledImages

PIXELS = 3 * IMAGE_SIZE * IMAGE_SIZE
# What an array in a pickle names; numpy 2 moved the first, the published files have the old name.
_RECONSTRUCT = np.empty(0).__reduce__()[0]
_ALLOWED: Mapping[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


def read_archive(name: str, place: Path, *, verify: bool) -> tuple[LabelledImages, LabelledImages]:
    """Training and test images of `cifar10` or `cifar100` from its folder or packed archive, once a process.

    Raises ConfigError naming the file: another checksum than the published one (with `verify`), a pickle that
    asks for more than arrays, or content of another shape.
    """
    paths = [place] if place.is_file() else [place / file for file in ARCHIVES[name].files]
    stamps = tuple((path.stat().st_size, path.stat().st_mtime_ns) for path in paths)
    return _read(name, place, verify, stamps)


@lru_cache(maxsize=2)
def _read(
    name: str, place: Path, verify: bool, stamps: tuple[tuple[int, int], ...]
) -> tuple[LabelledImages, LabelledImages]:
    archive = ARCHIVES[name]
    contents = {file: _content(archive, place, file) for file in archive.files}
    if verify:
        for file, published in archive.files.items():
            found = hashlib.md5(contents[file], usedforsecurity=False).hexdigest()
            if found != published:
                raise ConfigError(
                    f"{place / file} is not the published file: its md5 is {found}, not {published}; get "
                    f"{archive.packed} anew, or set data.options.verify=false for files of your own"
                )
    (meta,) = archive.meta
    names = _unpickled(contents[meta], place / meta).get(archive.names)
    if not isinstance(names, list) or len(names) != archive.classes:
        raise ConfigError(f"{place / meta} must list {archive.classes} {archive.names}, but holds {_kind(names)}")
    train, test = (
        _joined([_batch(archive, contents[file], place / file) for file in part])
        for part in (archive.train, archive.test)
    )
    if verify and (len(train.labels), len(test.labels)) != (TRAIN_ITEMS, TEST_ITEMS):
        raise ConfigError(f"{place} must hold {TRAIN_ITEMS} and {TEST_ITEMS} images, but has {len(train.labels)} "
                          f"and {len(test.labels)}")  # fmt: skip
    return train, test


def _content(archive: Archive, place: Path, file: str) -> bytes:
    try:
        if not place.is_file():
            return (place / file).read_bytes()
        return _members(place, place.stat().st_mtime_ns)[f"{archive.folder}/{file}"]
    except KeyError:
        raise ConfigError(f"{place} has no {archive.folder}/{file} in it; get it anew") from None
    except (OSError, EOFError, tarfile.TarError) as error:
        raise ConfigError(f"{place} cannot be read ({error}); get {archive.packed} anew") from None


@lru_cache(maxsize=1)
def _members(packed: Path, stamp: int) -> Mapping[str, bytes]:
    """Plain files in a packed archive; nothing is written anywhere."""
    found = {}
    with tarfile.open(packed, "r:gz") as opened:
        for member in opened:
            content = opened.extractfile(member) if member.isreg() else None
            if content is not None:
                found[member.name.removeprefix("./")] = content.read()
    return found


def _batch(archive: Archive, content: bytes, path: Path) -> tuple[np.ndarray, np.ndarray]:
    batch = _unpickled(content, path)
    data, labels = batch.get("data"), batch.get(archive.labels)
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != PIXELS:
        raise ConfigError(f"{path} must hold 'data' of shape (items, {PIXELS}) and type uint8, but has {_kind(data)}")
    if not isinstance(labels, list) or len(labels) != len(data):
        raise ConfigError(f"{path} must hold {len(data)} '{archive.labels}', but has {_kind(labels)}")
    for label in labels:
        if type(label) is not int or not 0 <= label < archive.classes:
            raise ConfigError(f"{path} must hold labels from 0 to {archive.classes - 1}, but has {label!r}")
    return data, np.array(labels, dtype=np.int64)


def _joined(batches: list[tuple[np.ndarray, np.ndarray]]) -> LabelledImages:
    images = np.concatenate([data for data, _ in batches]).reshape(-1, 3, IMAGE_SIZE, IMAGE_SIZE)
    return LabelledImages(images, np.concatenate([labels for _, labels in batches]))


def _kind(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    return f"{len(value)} of them" if isinstance(value, list) else f"a {type(value).__name__}"


class _Unpickler(pickle.Unpickler):
    """Refuses, by name, everything that is no array: a pickle can name any function and have it called."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no data set needs")


def _unpickled(content: bytes, path: Path) -> dict[str, Any]:
    try:
        # Python 2 wrote bytes where Python 3 has strings
        value = _Unpickler(io.BytesIO(content), encoding="latin1").load()
    except MemoryError:
        raise
    except Exception as error:  # a broken pickle may raise anything
        raise ConfigError(f"{path} is refused: {str(error) or type(error).__name__}; get it anew") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path} must hold a dictionary, but holds {_kind(value)}")
    return value
