"""CIFAR-10 and CIFAR-100 as published: torchvision reads the same; whatever is broken or hostile is named."""

from __future__ import annotations

import hashlib
import os
import pickle
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision

from trainables.config import ConfigError, DataConfig
from trainables.data import cifar, load_data
from trainables.data.facts import SetFacts, data_facts, require_present

Write = Callable[..., Path]


def config(root: Path, name: str = "cifar10", **changes: Any) -> DataConfig:
    return DataConfig(name, root=str(root), **{"options": {"verify": False}, **changes})


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Take what lies in a folder of CIFAR-10 for what was published, here and in torchvision."""

    def publish(folder: Path) -> None:
        sums = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.iterdir()}
        archive = cifar.ARCHIVES["cifar10"]
        parts = {part: {name: sums[name] for name in getattr(archive, part)} for part in ("train", "test", "meta")}
        monkeypatch.setitem(cifar.ARCHIVES, "cifar10", replace(archive, **parts))  # type: ignore[arg-type]
        theirs = torchvision.datasets.CIFAR10
        monkeypatch.setattr(theirs, "train_list", [list(item) for item in parts["train"].items()])
        monkeypatch.setattr(theirs, "test_list", [list(item) for item in parts["test"].items()])
        monkeypatch.setattr(theirs, "meta", {**theirs.meta, "md5": sums["batches.meta"]})

    return publish


def test_table_is_torchvisions() -> None:
    for name, theirs in (("cifar10", torchvision.datasets.CIFAR10), ("cifar100", torchvision.datasets.CIFAR100)):
        ours = cifar.ARCHIVES[name]
        assert ours.folder == theirs.base_folder
        assert ours.packed == theirs.filename
        assert list(map(list, ours.train.items())) == theirs.train_list
        assert list(map(list, ours.test.items())) == theirs.test_list
        assert ours.meta == {theirs.meta["filename"]: theirs.meta["md5"]}
        assert ours.names == theirs.meta["key"]
        assert ours.downloader == theirs.__name__


def test_same_as_torchvision(
    tmp_path: Path, write_cifar10: Write, published: Callable[[Path], None], everything: Callable[..., Any]
) -> None:
    published(write_cifar10(tmp_path))
    splits = load_data(config(tmp_path))
    theirs = torchvision.datasets.CIFAR10(str(tmp_path), train=True)
    images, labels = (torch.cat(parts) for parts in zip(everything(splits.train), everything(splits.validation)))  # noqa: B905
    ours = sorted((image.tobytes(), int(label)) for image, label in zip(images.numpy(), labels, strict=True))
    expected = np.ascontiguousarray(theirs.data.transpose(0, 3, 1, 2))
    assert ours == sorted((image.tobytes(), label) for image, label in zip(expected, theirs.targets, strict=True))
    # the test split as it lies in the file
    images, labels = everything(splits.test)
    theirs = torchvision.datasets.CIFAR10(str(tmp_path), train=False)
    assert np.array_equal(images.numpy(), theirs.data.transpose(0, 3, 1, 2))
    assert labels.tolist() == theirs.targets
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (80, 20, 20)
    assert splits.image_shape == (3, 32, 32)
    assert splits.facts == {"data_hash_over": "images", "data_verified": False}


def test_cifar100_has_fine_labels(tmp_path: Path, write_cifar100: Write, everything: Callable[..., Any]) -> None:
    folder = write_cifar100(tmp_path)
    splits = load_data(config(tmp_path, "cifar100"))
    assert splits.classes == 100
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (160, 40, 100)
    with open(folder / "test", "rb") as file:
        batch = pickle.load(file, encoding="latin1")
    images, labels = everything(splits.test)
    assert labels.tolist() == batch["fine_labels"] != batch["coarse_labels"]
    assert np.array_equal(images.numpy().reshape(-1, 3072), batch["data"])
    assert data_facts(config(tmp_path, "cifar100")) == SetFacts(200, 100, 100, 32, 3)


def test_packed_archive_is_read_where_it_lies(tmp_path: Path, write_cifar10: Write) -> None:
    folder = write_cifar10(tmp_path / "one")
    (tmp_path / "two").mkdir()
    with tarfile.open(tmp_path / "two" / "cifar-10-python.tar.gz", "w:gz") as packed:
        packed.add(folder, arcname=folder.name)
    one, two = (load_data(config(tmp_path / name)) for name in ("one", "two"))
    assert one.content_hash == two.content_hash
    assert [path.name for path in (tmp_path / "two").iterdir()] == ["cifar-10-python.tar.gz"]
    # the folder itself may be named as the root
    assert load_data(config(folder)).content_hash == one.content_hash


def test_broken_packed_archive(tmp_path: Path, write_cifar10: Write) -> None:
    folder = write_cifar10(tmp_path / "one")
    packed = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(packed, "w:gz") as archive:
        archive.add(folder / "batches.meta", arcname="cifar-10-batches-py/batches.meta")
    with pytest.raises(ConfigError, match=r"cifar-10-python.tar.gz has no cifar-10-batches-py/data_batch_1 in it"):
        load_data(config(tmp_path))
    packed.write_bytes(packed.read_bytes()[:40])
    with pytest.raises(ConfigError, match=r"cifar-10-python.tar.gz cannot be read"):
        load_data(config(tmp_path))


def test_hash_follows_content_and_split(tmp_path: Path, write_cifar10: Write) -> None:
    for seed in (0, 1):
        write_cifar10(tmp_path / str(seed), seed=seed)
    write_cifar10(tmp_path / "again")
    hashes = [
        load_data(config(tmp_path / name, split_seed=seed)).content_hash
        for name, seed in (("0", 0), ("again", 0), ("1", 0), ("0", 1))
    ]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3


def test_files_are_read_once_a_process(tmp_path: Path, write_cifar10: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_cifar10(tmp_path)
    first = load_data(config(tmp_path, split_seed=0))
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} is read again"))
    again = load_data(config(tmp_path, split_seed=1))
    assert torch.equal(first.test.images, again.test.images)
    monkeypatch.undo()
    other = write_cifar10(tmp_path / "other", seed=5)
    for path in other.iterdir():
        os.replace(path, folder / path.name)
    assert load_data(config(tmp_path)).content_hash != first.content_hash  # files that changed are read anew


def test_facts_need_no_files_unless_they_are_ones_own(tmp_path: Path, write_cifar10: Write) -> None:
    assert data_facts(DataConfig("cifar10", root="/nowhere")) == SetFacts(50_000, 10_000, 10, 32, 3)
    assert data_facts(DataConfig("cifar100")) == SetFacts(50_000, 10_000, 100, 32, 3)
    write_cifar10(tmp_path)
    assert data_facts(config(tmp_path)) == SetFacts(100, 20, 10, 32, 3)


def test_missing_files_are_named(tmp_path: Path, write_cifar10: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"cifar10 needs data.root, the folder that holds cifar-10-batches-py"):
        require_present(DataConfig("cifar10"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as nothing:
        require_present(DataConfig("cifar10", root="data"))
    assert f"cifar10 in {tmp_path}/data/cifar-10-batches-py must have data_batch_1, data_batch_2" in str(nothing.value)
    assert "but all of it is missing; get cifar-10-python.tar.gz from https://www.cs.toronto.edu" in str(nothing.value)
    folder = write_cifar10(tmp_path / "data")
    require_present(DataConfig("cifar10", root="data"))
    (folder / "data_batch_3").unlink()
    (folder / "batches.meta").unlink()
    for ask in (require_present, load_data):
        with pytest.raises(ConfigError, match=r"but data_batch_3, batches.meta is missing; get .*data.download=true"):
            ask(DataConfig("cifar10", root="data"))


def test_another_checksum_is_refused_before_unpickling(
    tmp_path: Path, write_cifar10: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cifar10(tmp_path)
    monkeypatch.setattr(pickle, "Unpickler", None)
    with pytest.raises(ConfigError, match=r"data_batch_1 is not the published file: its md5 is [0-9a-f]{32}, not c99c"):
        load_data(config(tmp_path, options={}))


def test_published_files_of_another_size_are_refused(
    tmp_path: Path, write_cifar10: Write, published: Callable[[Path], None]
) -> None:
    published(write_cifar10(tmp_path))
    with pytest.raises(ConfigError, match="must hold 50000 and 10000 images, but has 100 and 20"):
        load_data(config(tmp_path, options={"verify": True}))


class Hostile:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("file", ["data_batch_1", "test_batch", "batches.meta"])
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_hostile_pickle_does_not_run(tmp_path: Path, write_cifar10: Write, file: str, protocol: int) -> None:
    folder, mark = write_cifar10(tmp_path), tmp_path / "it ran"
    bomb = pickle.dumps({"data": Hostile(Path(str(mark).replace(" ", "\\ ")))}, protocol=protocol)
    (folder / file).write_bytes(bomb)
    with pytest.raises(ConfigError, match=rf"{file} is refused: it asks for posix.system, which no data set needs"):
        load_data(config(tmp_path))
    assert not mark.exists()
    pickle.loads(bomb)  # it would have
    assert mark.exists()


@pytest.mark.parametrize("name", ["builtins.eval", "numpy.load", "numpy.core.multiarray.fromstring", "_codecs.encode"])
def test_every_other_name_is_refused(tmp_path: Path, write_cifar10: Write, name: str) -> None:
    module, attribute = name.rsplit(".", 1)
    folder = write_cifar10(tmp_path)
    (folder / "data_batch_2").write_bytes(f"c{module}\n{attribute}\n.".encode())
    with pytest.raises(ConfigError, match=f"data_batch_2 is refused: it asks for {name}"):
        load_data(config(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": np.zeros((20, 3071), np.uint8)}, r"shape \(items, 3072\) and type uint8, but has uint8 of shape"),
        ({"data": np.zeros((20, 3072), np.float32)}, "but has float32 of shape"),
        ({"data": [1, 2]}, "but has 2 of them"),
        ({"labels": [1] * 19}, "20 'labels', but has 19 of them"),
        ({"labels": [1] * 19 + [10]}, "labels from 0 to 9, but has 10"),
        ({"labels": [1] * 19 + ["1"]}, "labels from 0 to 9, but has '1'"),
        ({"fine_labels": [1], "labels": None}, "20 'labels', but has a NoneType"),
    ],
)
def test_content_of_another_shape_is_named(
    tmp_path: Path, write_cifar10: Write, python_two: Callable[[object], bytes], change: dict[str, Any], message: str
) -> None:
    folder = write_cifar10(tmp_path)
    batch = {"labels": [1] * 20, "data": np.zeros((20, 3072), np.uint8)}
    (folder / "data_batch_4").write_bytes(python_two({**batch, **change}))
    with pytest.raises(ConfigError, match=rf"data_batch_4 must hold .*{message}"):
        load_data(config(tmp_path))


@pytest.mark.parametrize("content", [b"", b"not a pickle", b"\x80\x02]q\x00."])
def test_what_is_no_batch_is_refused(tmp_path: Path, write_cifar10: Write, content: bytes) -> None:
    folder = write_cifar10(tmp_path)
    (folder / "test_batch").write_bytes(content)
    with pytest.raises(ConfigError, match=r"test_batch (is refused: .+; get it anew|must hold a dictionary)"):
        load_data(config(tmp_path))


def test_options_are_checked(tmp_path: Path) -> None:
    for ask in (load_data, data_facts, require_present):
        with pytest.raises(ConfigError, match="cifar10's verify must be true or false, but got 'no'"):
            ask(config(tmp_path, options={"verify": "no"}))
        with pytest.raises(ConfigError, match="did you mean 'verify'"):
            ask(config(tmp_path, options={"verfy": True}))
