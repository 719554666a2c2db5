"""`download: true`: torchvision's downloader, then our reader; without a network one sentence."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torchvision

from trainables.config import ConfigError, DataConfig
from trainables.data import cifar, load_data
from trainables.data.facts import require_present


@pytest.fixture
def served(
    tmp_path: Path, write_cifar10: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[str]]:
    """Replace what lies behind the URL, and the checksums that both sides expect."""

    def serve() -> list[str]:
        folder = write_cifar10(tmp_path / "source")
        packed = tmp_path / "served.tar.gz"
        with tarfile.open(packed, "w:gz") as archive:
            archive.add(folder, arcname=folder.name)
        sums = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.iterdir()}
        theirs = torchvision.datasets.CIFAR10
        monkeypatch.setattr(theirs, "tgz_md5", hashlib.md5(packed.read_bytes()).hexdigest())
        monkeypatch.setattr(theirs, "train_list", [[name, sums[name]] for name, _ in theirs.train_list])
        monkeypatch.setattr(theirs, "test_list", [[name, sums[name]] for name, _ in theirs.test_list])
        monkeypatch.setattr(theirs, "meta", {**theirs.meta, "md5": sums["batches.meta"]})
        asked: list[str] = []

        def retrieve(url: str, filename: Any, *_: Any, **__: Any) -> None:
            asked.append(url)
            shutil.copy(packed, filename)

        monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", retrieve)
        monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, **_: url)
        return asked

    return serve


def test_fetches_what_is_missing_once(tmp_path: Path, served: Callable[..., list[str]]) -> None:
    asked = served()
    root = tmp_path / "new" / "place"
    config = DataConfig("cifar10", root=str(root), download=True, options={"verify": False})
    require_present(config)
    assert asked == ["https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"]
    assert [path.name for path in root.iterdir()] == ["cifar-10-batches-py"]  # nothing else is left behind
    here = load_data(config)
    assert len(asked) == 1
    source = load_data(replace(config, root=str(tmp_path / "source"), download=False))
    assert here.content_hash == source.content_hash
    kept = (root / "cifar-10-batches-py" / "data_batch_1").stat().st_ino
    (root / "cifar-10-batches-py" / "test_batch").unlink()
    require_present(config)
    assert len(asked) == 2
    assert (root / "cifar-10-batches-py" / "data_batch_1").stat().st_ino == kept
    assert load_data(config).content_hash == here.content_hash


def test_no_network_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(ConfigError) as caught:
        require_present(DataConfig("cifar100", root=str(tmp_path), download=True))
    assert f"cifar-100-python.tar.gz could not be downloaded to {tmp_path} (" in str(caught.value)
    assert f"no route to host>); get it from {cifar.HOME_PAGE} and put it there" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"could not be downloaded to .*file/below"):
        require_present(DataConfig("cifar10", root=str(tmp_path / "file" / "below"), download=True))


@pytest.mark.parametrize("name", ["digits", "synthetic", "tiny_imagenet", "image_folder"])
def test_what_cannot_be_fetched(name: str) -> None:
    with pytest.raises(ConfigError, match=f"data.download is there for cifar10, cifar100, but not for {name}"):
        require_present(DataConfig(name, download=True))
