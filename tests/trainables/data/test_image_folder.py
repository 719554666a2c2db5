"""ImageNet's layout: same order, labels and pixels as torchvision's reader; what does not fit is named."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.datasets import ImageFolder

from trainables.config import ConfigError, DataConfig
from trainables.data import image_folder, load_data
from trainables.data.facts import SetFacts, data_facts, require_present
from trainables.data.splits import DataSplits

Write = Callable[..., Path]
SMALL = {"image_size": 32, "load_size": 36, "workers": 2}


def config(root: Path, seed: int = 0, **options: Any) -> DataConfig:
    return DataConfig("image_folder", root=str(root), split_seed=seed, options={**SMALL, **options})


@pytest.fixture(autouse=True)
def _fresh() -> None:
    for remembered in (image_folder._counts, image_folder._read):
        remembered.cache_clear()


@pytest.fixture
def load() -> Iterator[Callable[[DataConfig], DataSplits]]:
    """Load; the workers end with the test."""
    opened: list[DataSplits] = []

    def open_it(asked: DataConfig) -> DataSplits:
        opened.append(load_data(asked))
        return opened[-1]

    yield open_it
    for splits in opened:
        splits.close()


@pytest.mark.parametrize("cached", [False, True])
def test_same_as_torchvision(
    tmp_path: Path, write_folder: Write, load: Any, everything: Callable[..., Any], cached: bool
) -> None:
    root = write_folder(tmp_path / "set")
    options = {"cache": str(tmp_path / "cache")} if cached else {}
    splits = load(config(root, **options))
    as_ours = transforms.Compose([transforms.Resize(36), transforms.CenterCrop(36), transforms.PILToTensor()])
    theirs = ImageFolder(str(root / "val"), transform=as_ours)
    images, labels = everything(splits.test)
    assert images.dtype == torch.uint8
    assert torch.equal(images, torch.stack([image for image, _ in theirs]))
    assert labels.tolist() == theirs.targets == splits.test.labels.tolist()
    theirs = ImageFolder(str(root / "train"), transform=as_ours)
    parts = [everything(split) for split in (splits.train, splits.validation)]
    ours = sorted(
        (image.numpy().tobytes(), int(label))
        for images, labels in parts
        for image, label in zip(images, labels, strict=True)
    )
    assert ours == sorted((image.numpy().tobytes(), label) for image, label in theirs)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (16, 5, 6)
    assert (splits.classes, splits.image_shape) == (3, (3, 32, 32))
    assert splits.facts == {"data_hash_over": "files"}
    assert len(list(tmp_path.glob("cache/*.npy"))) == cached


def test_normalised_as_imagenet_is(tmp_path: Path, write_folder: Write, load: Any) -> None:
    normalisation = load(config(write_folder(tmp_path))).normalisation
    usual = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    raw = torch.randint(0, 256, (3, 3, 4, 4), dtype=torch.uint8)
    torch.testing.assert_close(normalisation(raw), usual(raw / 255), rtol=1e-5, atol=1e-6)


def test_deep_folders_and_other_files(
    tmp_path: Path, write_folder: Write, load: Any, save_image: Callable[..., None], everything: Callable[..., Any]
) -> None:
    root = write_folder(tmp_path)
    save_image(root / "val" / "bee" / "a" / "deep.PNG", (50, 50), 1)
    (root / "val" / "bee" / "notes.txt").write_text("no image")
    (root / "val" / "LICENSE").write_text("no class")
    splits = load(config(root))
    assert len(splits.test) == 7
    as_ours = transforms.Compose([transforms.Resize(36), transforms.CenterCrop(36), transforms.PILToTensor()])
    theirs = ImageFolder(str(root / "val"), transform=as_ours)
    assert torch.equal(everything(splits.test)[0], torch.stack([image for image, _ in theirs]))


def test_facts_are_counted(tmp_path: Path, write_folder: Write) -> None:
    root = write_folder(tmp_path)
    assert data_facts(config(root)) == SetFacts(21, 6, 3, 32, 3)
    with pytest.raises(ConfigError, match=r"image_folder needs data.root, the folder that holds the folders train"):
        data_facts(DataConfig("image_folder"))


def test_hash_follows_files_labels_split_and_size(tmp_path: Path, write_folder: Write, load: Any) -> None:
    one = write_folder(tmp_path / "one")
    shutil.copytree(one, tmp_path / "copied")
    shutil.copytree(one, tmp_path / "moved")
    os.rename(tmp_path / "moved" / "train" / "ant" / "ant_0.JPEG", tmp_path / "moved" / "train" / "bee" / "x.JPEG")
    hashes = [
        load(asked).content_hash
        for asked in (
            config(one),
            config(tmp_path / "copied"),
            config(tmp_path / "moved"),
            config(one, seed=1),
            config(one, load_size=40),
        )
    ]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 4
    # kept decoded or not, the content is the same
    assert load(config(one, cache=str(tmp_path / "cache"))).content_hash == hashes[0]


def test_what_is_missing_is_named(tmp_path: Path, write_folder: Write) -> None:
    root = write_folder(tmp_path / "set")
    require_present(config(root))
    shutil.rmtree(root / "val" / "ant")
    for ask in (require_present, load_data, data_facts):
        with pytest.raises(ConfigError, match=r"train and val must have the same classes, but ant is only in train"):
            ask(config(root))
    (root / "val" / "ant").mkdir()
    for ask in (load_data, data_facts):
        with pytest.raises(ConfigError, match=r"val/ant has no images in it; names must end in .jpg"):
            ask(config(root))
    shutil.rmtree(root / "val")
    for ask in (require_present, load_data, data_facts):
        with pytest.raises(ConfigError, match=rf"image_folder in {root} must have train, val, but val is missing; "):
            ask(config(root))
    (root / "val").write_text("")
    with pytest.raises(ConfigError, match=rf"{root}/val must be a folder, but is a file; each holds"):
        require_present(config(root))
    for place in ("train/only", "val/only"):
        (tmp_path / "other" / place).mkdir(parents=True)
    with pytest.raises(ConfigError, match="must have a folder for each of two or more classes, but has 1"):
        require_present(config(tmp_path / "other"))


def test_a_dead_link_is_named(tmp_path: Path, write_folder: Write) -> None:
    victim = write_folder(tmp_path / "set") / "val" / "bee" / "bee_1.JPEG"
    victim.unlink()
    victim.symlink_to(tmp_path / "nowhere")
    with pytest.raises(
        ConfigError, match=rf"{victim} cannot be read \(No such file or directory\); replace it or take"
    ):
        load_data(config(tmp_path / "set"))


@pytest.mark.parametrize("cached", [False, True])
def test_broken_images_are_named(
    tmp_path: Path, write_folder: Write, load: Any, everything: Callable[..., Any], cached: bool
) -> None:
    root = write_folder(tmp_path / "set")
    victim = root / "val" / "bee" / "bee_1.JPEG"
    victim.write_bytes(victim.read_bytes()[:-150])
    options = {"cache": str(tmp_path / "cache")} if cached else {}
    with pytest.raises(ConfigError, match=rf"{victim} is no whole image \(.*truncated.*\); replace it or take it out"):
        everything(load(config(root, **options)).test)
    victim.write_text("no image at all")
    image_folder._read.cache_clear()
    with pytest.raises(ConfigError, match=rf"{victim} is no whole image"):
        everything(load(config(root, **options)).test)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"load_size": 31}, r"image_size <= load_size must hold, but got \(image_size=32, load_size=31\)"),
        ({"workers": -1}, "workers must be a whole number of at least 0"),
        ({"cache": 3}, "cache must be a string, but got 3"),
    ],
)
def test_options_are_checked(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    for ask in (load_data, data_facts, require_present):
        with pytest.raises(ConfigError, match=message):
            ask(config(tmp_path, **options))


def test_default_sizes_are_imagenets(tmp_path: Path, write_folder: Write, load: Any) -> None:
    splits = load(DataConfig("image_folder", root=str(write_folder(tmp_path)), options={"workers": 1}))
    assert splits.image_shape == (3, 224, 224)
    ((images, _),) = splits.test.batches([torch.arange(2)])
    assert images.shape == (2, 3, 256, 256)
    assert np.unique(images).size > 50


def test_imagenet_is_planned_without_files_and_held_to_its_published_sizes(tmp_path: Path) -> None:
    config = DataConfig("imagenet", root=str(tmp_path))
    facts = data_facts(config)
    assert (facts.items, facts.test_items, facts.classes, facts.image_size) == (1_281_167, 50_000, 1000, 224)
    with pytest.raises(ConfigError, match="must have train, val, but all of it is missing"):
        require_present(config)
    for part in ("train", "val"):
        for name in ("n01440764", "n01443537"):
            (tmp_path / part / name).mkdir(parents=True)
            Image.new("RGB", (4, 4)).save(tmp_path / part / name / "0.png")
    with pytest.raises(ConfigError, match=r"imagenet must have 1000 classes, but .* has 2; .* image_folder"):
        require_present(config)
    with pytest.raises(ConfigError, match="restore the missing files, or name it image_folder"):
        load_data(config)
