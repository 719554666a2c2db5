"""Checkpoints: atomic, wary of damage and of other configurations."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
import torch

from trainables.checkpoint import CheckpointMismatchError, CheckpointStore

CPU = torch.device("cpu")
DIGEST = "a" * 64


def state(value: float) -> dict[str, object]:
    return {"weight": torch.full((3, 2), value), "history": [{"epoch": value}]}


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def loaded_epoch(folder: Path) -> int | None:
    checkpoint = CheckpointStore(folder, DIGEST).load(CPU)
    if checkpoint is None:
        return None
    assert torch.equal(checkpoint.state["weight"], torch.full((3, 2), float(checkpoint.epoch)))
    return checkpoint.epoch


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
