"""Images decoded once: whole files only, one process at it, anew where something changed."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from trainables.config import ConfigError
from trainables.data.decoded import DecodedImages, decoded_once
from trainables.data.image_files import ImageFiles, files_of


@pytest.fixture
def files(tmp_path: Path, save_image: Callable[..., None]) -> ImageFiles:
    """A dozen small images."""
    paths = [f"images/{index:02d}ä.png" for index in range(12)]
    for index, path in enumerate(paths):
        save_image(tmp_path / path, (8, 8), index)
    return files_of(tmp_path, paths, size=8, resize=False)


def _decode(files: ImageFiles, cache: Path) -> DecodedImages:
    return decoded_once(files, files.stats(), cache, "set", 1)


def test_same_pixels_whichever_way(files: ImageFiles, tmp_path: Path) -> None:
    decoded = _decode(files, tmp_path / "cache")
    places = np.array([7, 0, 7, 11])
    assert np.array_equal(decoded.read(places), files.read(places))
    assert np.array_equal(decoded.mapped(), files.read(np.arange(12)))
    assert (len(decoded), decoded.shape) == (12, (3, 8, 8))
    assert not decoded.mapped().flags.writeable


def test_a_changed_file_is_decoded_anew(files: ImageFiles, tmp_path: Path, save_image: Callable[..., None]) -> None:
    once = _decode(files, tmp_path / "cache")
    assert _decode(files, tmp_path / "cache") == once
    save_image(tmp_path / "images" / "03ä.png", (8, 8), 99)
    again = _decode(files, tmp_path / "cache")
    assert again.path != once.path
    assert np.array_equal(again.read(np.array([3])), files.read(np.array([3])))


def test_one_of_many_processes_decodes(files: ImageFiles, tmp_path: Path) -> None:
    with ProcessPoolExecutor(3, mp_context=get_context("fork")) as pool:
        found = list(pool.map(_decode, [files] * 3, [tmp_path / "cache"] * 3))
    assert found[0] == found[1] == found[2]
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 1


def test_nothing_is_kept_of_a_broken_set(files: ImageFiles, tmp_path: Path) -> None:
    (tmp_path / "images" / "10ä.png").write_bytes(b"no image")
    with pytest.raises(ConfigError, match=r"images/10ä.png is no whole image"):
        _decode(files, tmp_path / "cache")
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_a_full_disk_is_one_sentence(files: ImageFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match=r"cannot be kept in .*No space left .*; make room for 0.0 GB there"):
        _decode(files, tmp_path / "cache")
    assert list((tmp_path / "cache").glob("*.npy")) == []
