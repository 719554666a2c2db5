"""Tiny ImageNet as it is unpacked: labels by annotations, decoded once, everything that does not fit named."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.datasets import ImageFolder

from trainables.config import ConfigError, DataConfig
from trainables.data import load_data, tiny_imagenet
from trainables.data.facts import SetFacts, data_facts, require_present

Write = Callable[..., Path]


def config(root: Path, **options: Any) -> DataConfig:
    return DataConfig("tiny_imagenet", root=str(root), options={"verify": False, "workers": 1, **options})


@pytest.fixture(autouse=True)
def _fresh() -> None:
    for remembered in (tiny_imagenet._listing, tiny_imagenet._read):
        remembered.cache_clear()


def test_same_as_torchvision(tmp_path: Path, write_tiny: Write, everything: Callable[..., Any]) -> None:
    folder = write_tiny(tmp_path)
    splits = load_data(config(tmp_path))
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (12, 3, 4)
    assert (splits.classes, splits.image_shape) == (3, (3, 64, 64))
    assert splits.facts == {"data_hash_over": "images", "data_verified": False}
    theirs = ImageFolder(str(folder / "train"))
    parts = [everything(split) for split in (splits.train, splits.validation)]
    ours = sorted(
        (image.tobytes(), int(label))
        for images, labels in parts
        for image, label in zip(images.numpy(), labels, strict=True)
    )
    assert ours == sorted((np.asarray(image).transpose(2, 0, 1).tobytes(), label) for image, label in theirs)
    # the annotated images by name, with the labels of wnids.txt sorted
    images, labels = everything(splits.test)
    by_name = ImageFolder(str(folder / "val"))  # one class, as DESIGN warns
    assert [np.asarray(image).transpose(2, 0, 1).tolist() for image, _ in by_name] == images.tolist()
    assert labels.tolist() == [1, 2, 0, 1]


def test_decoded_once_beside_the_folder(
    tmp_path: Path, write_tiny: Write, save_image: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_tiny(tmp_path)
    first = load_data(config(tmp_path))
    (kept,) = tmp_path.glob("*.npy")
    assert np.load(kept).shape == (19, 3, 64, 64)
    _fresh_process()
    before = kept.stat().st_mtime_ns
    with monkeypatch.context() as patch:
        patch.setattr("trainables.data.image_files._decoded", lambda *_: pytest.fail("decoded again"))
        assert load_data(config(tmp_path)).content_hash == first.content_hash
    assert kept.stat().st_mtime_ns == before
    # a changed image is another content
    _fresh_process()
    save_image(folder / "train" / "n01" / "images" / "n01_0.JPEG", (64, 64), 77)
    assert load_data(config(tmp_path)).content_hash != first.content_hash
    assert len(list(tmp_path.glob("*.npy"))) == 2
    _fresh_process()
    load_data(config(tmp_path, cache=str(tmp_path / "elsewhere" / "deep")))
    assert len(list((tmp_path / "elsewhere" / "deep").glob("*.npy"))) == 1


def _fresh_process() -> None:
    tiny_imagenet._listing.cache_clear()
    tiny_imagenet._read.cache_clear()


def test_facts(tmp_path: Path, write_tiny: Write) -> None:
    assert data_facts(DataConfig("tiny_imagenet")) == SetFacts(100_000, 10_000, 200, 64, 3)
    folder = write_tiny(tmp_path)
    assert data_facts(config(tmp_path)) == data_facts(config(folder)) == SetFacts(15, 4, 3, 64, 3)


def test_a_part_of_it_is_refused_unless_asked_for(tmp_path: Path, write_tiny: Write) -> None:
    write_tiny(tmp_path)
    with pytest.raises(ConfigError, match=r"must hold 100000 training images, .* but has 15, 4 and 3; .*verify=false"):
        load_data(config(tmp_path, verify=True))
    assert list(tmp_path.glob("*.npy")) == []


def test_missing_files_are_named(tmp_path: Path, write_tiny: Write) -> None:
    with pytest.raises(ConfigError, match=r"tiny_imagenet needs data.root"):
        require_present(DataConfig("tiny_imagenet"))
    with pytest.raises(ConfigError) as caught:
        require_present(config(tmp_path))
    expected = f"tiny_imagenet in {tmp_path}/tiny-imagenet-200 must have wnids.txt, train, val/images, val/val_annot"
    assert str(caught.value).startswith(expected)
    assert "all of it is missing; get http://cs231n.stanford.edu/tiny-imagenet-200.zip" in str(caught.value)
    folder = write_tiny(tmp_path)
    require_present(config(tmp_path))
    (folder / "val" / "val_annotations.txt").unlink()
    with pytest.raises(ConfigError, match=r"but val/val_annotations.txt is missing"):
        load_data(config(tmp_path))


def _append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def _swapped(path: Path) -> None:
    """A folder in the place of a file, or the other way round."""
    if path.is_dir():
        shutil.rmtree(path)
        path.write_text("")
    else:
        path.unlink()
        path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: _append(folder / "wnids.txt", "n09\n"), "but n09 is not in train"),
        (lambda folder: _append(folder / "wnids.txt", "n01\n"), "n01 stands there twice"),
        (lambda folder: (folder / "train" / "n10").mkdir(), "but n10 is not in wnids.txt"),
        (
            lambda folder: _append(folder / "val" / "val_annotations.txt", "val_9.JPEG\tn01\t0\t0\t9\t9\n"),
            r"val_annotations.txt line 5: val_9.JPEG is not in val/images",
        ),
        (
            lambda folder: _append(folder / "val" / "val_annotations.txt", "val_0.JPEG\tn77\t0\t0\t9\t9\n"),
            r"val_annotations.txt line 5: 'n77' is no class of wnids.txt",
        ),
        (
            lambda folder: _append(folder / "val" / "val_annotations.txt", "val_0.JPEG\tn01\t0\t0\t9\t9\n"),
            r"line 5: val_0.JPEG stands there twice",
        ),
        (
            lambda folder: os.rename(folder / "train/n01/images/n01_0.JPEG", folder / "val/images/val_5.JPEG"),
            r"must name every image in val/images, but val_5.JPEG is missing there",
        ),
        (
            lambda folder: os.rename(folder / "train" / "n01" / "images", folder / "train" / "n01" / "pictures"),
            r"train/n01/images must be a folder of images, but is not there",
        ),
        (
            lambda folder: [path.unlink() for path in (folder / "train" / "n01" / "images").iterdir()],
            r"train/n01/images has no images in it; names must end in .JPEG",
        ),
        (
            lambda folder: [path.unlink() for path in (folder / "val" / "images").iterdir()],
            r"val/images has no images in it",
        ),
        (
            lambda folder: (folder / "wnids.txt").write_bytes(b"\xff\xfen01"),
            r"wnids.txt cannot be read as text \(.*0xff",
        ),
        (
            lambda folder: (folder / "val" / "val_annotations.txt").write_bytes(b"\x89PNG"),
            r"val_annotations.txt cannot be read as text .*; get it anew from http",
        ),
        (lambda folder: _swapped(folder / "wnids.txt"), r"wnids.txt must be a file, but is a folder; get http"),
        (lambda folder: _swapped(folder / "train"), r"/train must be a folder, but is a file; get http"),
    ],
)
def test_what_does_not_fit_is_named(
    tmp_path: Path, write_tiny: Write, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(write_tiny(tmp_path))
    for ask in (data_facts, load_data):
        with pytest.raises(ConfigError, match=message):
            ask(config(tmp_path))


def test_broken_images_are_named(tmp_path: Path, write_tiny: Write, save_image: Callable[..., None]) -> None:
    folder = write_tiny(tmp_path)
    victim = folder / "train" / "n02" / "images" / "n02_3.JPEG"
    victim.write_bytes(victim.read_bytes()[:-200])
    with pytest.raises(ConfigError, match=r"train/n02/images/n02_3.JPEG is no whole image \(.*truncated.*replace it"):
        load_data(config(tmp_path))
    assert list(tmp_path.glob("*.npy")) == []
    assert list(tmp_path.glob("*.partial")) == []
    save_image(victim, (64, 63), 0)
    with pytest.raises(ConfigError, match=r"n02_3.JPEG must have 64x64 pixels, but has 64x63"):
        load_data(config(tmp_path))


def test_a_dead_link_is_named(tmp_path: Path, write_tiny: Write) -> None:
    victim = write_tiny(tmp_path) / "train" / "n02" / "images" / "n02_3.JPEG"
    victim.unlink()
    victim.symlink_to(tmp_path / "nowhere")
    with pytest.raises(
        ConfigError, match=r"n02_3.JPEG cannot be read \(No such file or directory\); replace it or take"
    ):
        load_data(config(tmp_path))


def test_a_cache_that_cannot_be_written(tmp_path: Path, write_tiny: Write) -> None:
    write_tiny(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot be kept in .*/file/below .*; make room .* data.options.cache"):
        load_data(config(tmp_path, cache=str(tmp_path / "file" / "below")))


def test_validation_seed_moves_training_images_only(tmp_path: Path, write_tiny: Write) -> None:
    write_tiny(tmp_path)
    splits = [
        load_data(DataConfig("tiny_imagenet", root=str(tmp_path), split_seed=seed, options={"verify": False}))
        for seed in (0, 0, 3)
    ]
    assert splits[0].content_hash == splits[1].content_hash != splits[2].content_hash
    assert torch.equal(splits[0].test.images, splits[2].test.images)
    assert not torch.equal(splits[0].validation.images, splits[2].validation.images)
