"""Checkpoints: atomic, wary of damage and of other configurations."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from trainables import checkpoint
from trainables.checkpoint import CheckpointMismatchError, CheckpointStore

CPU = torch.device("cpu")
DIGEST = "a" * 64


def state(value: float) -> dict[str, object]:
    return {"weight": torch.full((3, 2), value), "history": [{"epoch": value}]}


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def loaded_epoch(folder: Path) -> int | None:
    found = CheckpointStore(folder, DIGEST).load(CPU)
    if found is None:
        return None
    assert torch.equal(found.state["weight"], torch.full((3, 2), float(found.epoch)))
    return found.epoch


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store = CheckpointStore(tmp_path / "deep" / "trial", DIGEST)
    for epoch in (1, 2, 3):
        store.save(epoch, state(float(epoch)))
    return store.folder


def test_newest_of_the_last_two_is_read(folder: Path) -> None:
    assert [path.name[:12] for path in files(folder)] == ["epoch-000002", "epoch-000003"]
    assert loaded_epoch(folder) == 3
    # nothing but torch is needed to read one
    assert torch.load(files(folder)[-1], weights_only=True)["epoch"] == 3


def test_nothing_to_read(tmp_path: Path) -> None:
    assert loaded_epoch(tmp_path) is None


@pytest.mark.parametrize("damage", ["torn", "empty", "flipped", "garbage"])
def test_damaged_file_falls_back_and_is_reported(folder: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    before, newest = files(folder)
    data = newest.read_bytes()
    middle = len(data) // 2
    newest.write_bytes(
        {
            "torn": data[:middle],
            "empty": b"",
            "flipped": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
            "garbage": b"not a checkpoint",
        }[damage]
    )
    with caplog.at_level(logging.WARNING):
        assert loaded_epoch(folder) == 2
    assert newest.name in caplog.text
    before.write_bytes(b"")
    assert loaded_epoch(folder) is None
    # the next one written clears the damaged ones away, newer names too
    CheckpointStore(folder, DIGEST).save(1, state(1.0))
    assert [path.name[:12] for path in files(folder)] == ["epoch-000001"]
    assert loaded_epoch(folder) == 1


def test_hostile_pickle_is_not_run(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "owned"),)

    CheckpointStore(tmp_path / "trial", DIGEST).save(1, {"weight": Hostile()})
    assert CheckpointStore(tmp_path / "trial", DIGEST).load(CPU) is None
    assert not (tmp_path / "owned").exists()


def test_other_configuration_is_refused(folder: Path) -> None:
    with pytest.raises(CheckpointMismatchError, match=r"belongs to another configuration .*folder of its own"):
        CheckpointStore(folder, "b" * 64).load(CPU)


def test_crash_while_writing_leaves_the_last_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(descriptor: int) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", crash)
        with pytest.raises(OSError, match="no space left"):
            CheckpointStore(folder, DIGEST).save(4, state(4.0))
    assert any(path.suffix == ".tmp" for path in files(folder))
    assert loaded_epoch(folder) == 3
    assert all(path.suffix == ".pt" for path in files(folder))


def test_every_epochs_writes_when_due_last_or_flushed(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, DIGEST, every_epochs=3)
    live = state(1.0)
    store.offer(1, live)
    assert files(tmp_path) == []
    live["weight"].fill_(9.0)  # type: ignore[attr-defined]  # training goes on
    store.flush()
    assert loaded_epoch(tmp_path) == 1
    store.offer(3, state(3.0))
    assert loaded_epoch(tmp_path) == 3
    store.offer(4, state(4.0), last=True)
    assert loaded_epoch(tmp_path) == 4
    store.flush()
    assert len(files(tmp_path)) == 2


def epochs_of(folder: Path, kind: str) -> list[int]:
    return [int(path.name.split("-")[1]) for path in files(folder) if path.name.startswith(kind)]


def test_the_best_stays_beside_the_newest(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, DIGEST)
    assert store.best() is None
    best_so_far = []
    for epoch, score in enumerate((0.1, 0.5, 0.5, 0.3, -0.2, 0.4), start=1):
        if epoch == 4:  # a resumed run knows the best by its name
            store = CheckpointStore(tmp_path, DIGEST)
        store.offer(epoch, state(float(epoch)), score=score)
        best_so_far += epochs_of(tmp_path, "best")
    assert best_so_far == [1, 2, 2, 2, 2, 2]  # the earlier of equals
    assert epochs_of(tmp_path, "epoch") == [5, 6]
    best = store.best()
    assert best is not None
    assert torch.load(best, weights_only=True)["epoch"] == 2
    assert loaded_epoch(tmp_path) == 6


def test_a_run_taken_up_before_its_best_finds_it_anew(tmp_path: Path) -> None:
    """Its newest checkpoint was torn, so that the epochs after the one before are trained once more."""
    store = CheckpointStore(tmp_path, DIGEST)
    store.offer(1, state(1.0), score=0.2)
    store.offer(2, state(2.0), score=0.9)
    store.offer(2, state(2.0), score=0.9)
    assert epochs_of(tmp_path, "best") == [2]


def test_keeps_as_many_as_asked(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, DIGEST, keep=3)
    for epoch in range(1, 6):
        store.offer(epoch, state(float(epoch)))
    assert epochs_of(tmp_path, "epoch") == [3, 4, 5]


def test_low_disk_is_noticed_before_it_is_full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = files(folder)
    free = checkpoint.SPARE_BYTES + 100
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    with pytest.raises(checkpoint.LowDiskError, match=r"has 256 MiB free.*free some, or choose another folder"):
        CheckpointStore(folder, DIGEST).save(4, state(4.0))
    assert files(folder) == before
    assert loaded_epoch(folder) == 3
