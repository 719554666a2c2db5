"""Small data sets in the true on-disk formats."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

WriteCifar = Callable[..., Path]


@pytest.fixture(scope="session")
def write_cifar100(python_two: Callable[[object], bytes]) -> WriteCifar:
    """Two images a fine class to train on, one to test."""

    def write(root: Path) -> Path:
        folder = root / "cifar-100-python"
        folder.mkdir(parents=True)
        generator = np.random.default_rng(1)
        for name, items in (("train", 200), ("test", 100)):
            fine = (np.arange(items) % 100)[generator.permutation(items)]
            batch = {
                "filenames": [f"{index}.png" for index in range(items)],
                "batch_label": name,
                "fine_labels": fine.tolist(),
                "coarse_labels": (fine // 5).tolist(),
                "data": generator.integers(0, 256, (items, 3072), dtype=np.uint8),
            }
            (folder / name).write_bytes(python_two(batch))
        meta = {"fine_label_names": [f"f{i}" for i in range(100)], "coarse_label_names": [f"c{i}" for i in range(20)]}
        (folder / "meta").write_bytes(python_two(meta))
        return folder

    return write


@pytest.fixture(scope="session")
def save_image() -> Callable[..., None]:
    """An image of smooth random colours: (path, size (width, height), seed, mode)."""

    def save(path: Path, size: tuple[int, int], seed: int, mode: str = "RGB") -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).convert(mode).save(path)

    return save


@pytest.fixture(scope="session")
def write_tiny(save_image: Callable[..., None]) -> Callable[..., Path]:
    """Three classes, `items` training images each, four annotated ones in all, one grey."""

    def write(root: Path, items: int = 5) -> Path:
        folder = root / "tiny-imagenet-200"
        wnids = ["n03", "n01", "n02"]  # as published: in no order
        for place, wnid in enumerate(wnids):
            for index in range(items):
                mode = "L" if index == 2 else "RGB"
                path = folder / "train" / wnid / "images" / f"{wnid}_{index}.JPEG"
                save_image(path, (64, 64), 100 * place + index, mode)
            (folder / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t0\t63\t63\n")
        lines = []
        for index, wnid in enumerate(["n02", "n03", "n01", "n02"]):
            save_image(folder / "val" / "images" / f"val_{index}.JPEG", (64, 64), 1000 + index)
            lines.append(f"val_{index}.JPEG\t{wnid}\t0\t32\t44\t62\n")
        (folder / "val" / "val_annotations.txt").write_text("".join(reversed(lines)))
        (folder / "wnids.txt").write_text("\n".join(wnids) + "\n")
        (folder / "test" / "images").mkdir(parents=True)
        return folder

    return write


@pytest.fixture(scope="session")
def write_folder(save_image: Callable[..., None]) -> Callable[..., Path]:
    """ImageNet's layout: three classes, `items` training images and two others each, of all shapes and modes."""

    def write(root: Path, items: int = 7) -> Path:
        modes = ("RGB", "L", "CMYK", "RGBA", "P")
        for place, name in enumerate(("cat", "ant", "bee")):
            for part, count in (("train", items), ("val", 2)):
                for index in range(count):
                    mode = modes[index % 5]
                    suffix = "png" if mode in ("RGBA", "P") else "JPEG"
                    size = (40 + 7 * index, 64 - 5 * index)
                    seed = 1000 * place + 100 * (part == "val") + index
                    save_image(root / part / name / f"{name}_{index}.{suffix}", size, seed, mode)
        return root

    return write


@pytest.fixture(scope="session")
def everything() -> Callable[[Any], tuple[torch.Tensor, torch.Tensor]]:
    """All images and labels of a split, in order, by its own batches of seven."""

    def read(split: Any) -> tuple[torch.Tensor, torch.Tensor]:
        images, labels = zip(*split.batches(torch.arange(len(split)).split(7)), strict=True)
        return torch.cat(images), torch.cat(labels)

    return read
