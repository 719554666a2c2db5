"""Worker processes that decode ahead: order, errors, random streams left alone, an orderly end."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from trainables.config import ConfigError
from trainables.data import streaming
from trainables.data.streaming import Stream, StreamingSplit, worker_count

ITEMS = 60


@dataclass(frozen=True)
class Numbered:
    """Image i is filled with i; earlier places take longer, so that workers finish out of order."""

    folder: Path
    broken: int = -1
    shape: tuple[int, int, int] = (1, 2, 3)

    def __len__(self) -> int:
        return ITEMS

    def read(self, places: np.ndarray) -> np.ndarray:
        (self.folder / str(os.getpid())).touch()
        if self.broken in places:
            raise ConfigError(f"image {self.broken} is broken")
        if 0 in places:
            time.sleep(0.2)
        return np.broadcast_to(places[:, None, None, None], (len(places), *self.shape)).astype(np.uint8)


@pytest.fixture
def stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stream]:
    """Two workers, four images a piece."""
    monkeypatch.setattr(streaming, "PIECE_BYTES", 4 * 6)
    opened = Stream(Numbered(tmp_path), workers=2)
    yield opened
    opened.close()


def _processes(folder: Path) -> list[int]:
    return [int(path.name) for path in folder.iterdir()]


def _alive(process: int) -> bool:
    return Path(f"/proc/{process}").exists() and "zombie" not in Path(f"/proc/{process}/status").read_text()


def test_order_is_that_of_the_chunks(stream: Stream, tmp_path: Path) -> None:
    order = np.random.default_rng(0).permutation(ITEMS)
    chunks = [order[:1], order[1:30], order[30:30], order[30:33], order[33:]]
    for _ in range(3):
        found = list(stream.read(chunks))
        assert [images.shape for images in found] == [(len(chunk), 1, 2, 3) for chunk in chunks]
        assert all(images.dtype == torch.uint8 for images in found)
        assert [images[:, 0, 0, 0].tolist() for images in found] == [chunk.tolist() for chunk in chunks]
    used = _processes(tmp_path)
    assert len(used) == 2  # the same two all along
    assert os.getpid() not in used


def test_splits_share_the_workers(stream: Stream, tmp_path: Path) -> None:
    labels = torch.arange(ITEMS) % 7
    places = torch.randperm(ITEMS, generator=torch.Generator().manual_seed(0))
    one, other = (StreamingSplit(stream, part, labels[part]) for part in (places[:40], places[40:]))
    for split in (one, other, one):
        asked = torch.randperm(len(split), generator=torch.Generator().manual_seed(1)).split(9)
        for chunk, (images, truth) in zip(asked, split.batches(asked), strict=True):
            assert images[:, 0, 1, 2].tolist() == split.places[chunk].tolist()
            assert truth.tolist() == (split.places[chunk] % 7).tolist() == split.labels[chunk].tolist()
    assert len(_processes(tmp_path)) == 2


def test_a_read_may_be_left_in_the_middle(stream: Stream) -> None:
    chunks = list(np.arange(ITEMS).reshape(-1, 5))
    for images in stream.read(chunks):
        assert images[0, 0, 0, 0] == 0
        break
    left = stream.read(chunks)
    next(left)
    again = stream.read(chunks[::-1])
    assert [images[:, 0, 0, 0].tolist() for images in again] == [chunk.tolist() for chunk in chunks[::-1]]
    with pytest.raises(RuntimeError, match="one read at a time"):
        next(left)


def test_chunks_are_taken_a_few_ahead_only(stream: Stream) -> None:
    taken = 0

    def chunks() -> Iterator[np.ndarray]:
        nonlocal taken
        for start in range(10_000):
            taken += 1
            yield np.array([start % ITEMS])

    reading = stream.read(chunks())
    next(reading)
    assert 2 <= taken <= 2 * streaming.PIECES_AHEAD + 2


def test_an_error_is_one_sentence_and_ends_nothing(tmp_path: Path) -> None:
    stream = Stream(Numbered(tmp_path, broken=17), workers=2)
    chunks = [np.arange(10), np.arange(10, 20), np.arange(20, 30)]
    try:
        reading = stream.read(chunks)
        assert len(next(reading)) == 10
        with pytest.raises(ConfigError) as caught:
            next(reading)
        assert str(caught.value) == "image 17 is broken"
        assert [len(images) for images in stream.read(chunks[::2])] == [10, 10]
    finally:
        stream.close()


def test_what_the_chunks_raise_comes_through(stream: Stream) -> None:
    def chunks() -> Iterator[np.ndarray]:
        yield np.arange(3)
        raise KeyError("stopped")

    with pytest.raises(KeyError, match="stopped"):
        list(stream.read(chunks()))
    assert len(list(stream.read([np.arange(3)]))) == 1


def test_the_trials_random_stream_is_left_alone(stream: Stream) -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    for _ in range(2):
        list(stream.read([np.arange(5)]))
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("midway", [False, True])
def test_workers_end_at_close(stream: Stream, tmp_path: Path, midway: bool) -> None:
    reading = stream.read(np.arange(ITEMS).reshape(-1, 5))
    next(reading)
    if not midway:
        list(reading)
    used = _processes(tmp_path)
    assert used
    assert all(_alive(process) for process in used)
    stream.close()
    assert not any(_alive(process) for process in used)
    stream.close()
    if midway:
        with pytest.raises(RuntimeError):
            next(reading)
    # and a later read starts new ones
    assert len(list(stream.read([np.arange(3)]))) == 1
    assert set(_processes(tmp_path)) > set(used)


KILL_A_WORKER = """
import os, signal, sys, threading
from pathlib import Path
import numpy as np
from trainables.data.streaming import Stream

class Named:
    shape = (1, 2, 3)
    def __len__(self):
        return 60
    def read(self, places):
        (Path(sys.argv[1]) / str(os.getpid())).touch()
        return np.zeros((len(places), *self.shape), np.uint8)

def trial():
    stream = Stream(Named(), workers=2)
    reading = stream.read([np.array([place % 60]) for place in range(10_000)])
    next(reading)
    try:
        os.kill(int(next(Path(sys.argv[1]).iterdir()).name), signal.SIGKILL)
        for _ in reading:
            pass
    except RuntimeError as error:
        print("an error:", error)
    stream.close()

running = threading.Thread(target=trial)
running.start()
running.join()
"""


def test_a_killed_worker_is_an_error_not_a_hang(tmp_path: Path) -> None:
    """In a thread, as trials run; in a process of its own, since torch's signal handler speaks up in the main one."""
    done = subprocess.run(
        [sys.executable, "-c", KILL_A_WORKER, str(tmp_path)],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.startswith("an error:"), done.stderr
    assert _processes(tmp_path)
    assert not any(_alive(process) for process in _processes(tmp_path))


def test_worker_count() -> None:
    assert worker_count(3) == 3
    assert 1 <= worker_count(0) <= streaming.MOST_WORKERS


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_batches_reach_the_gpu(stream: Stream) -> None:
    split = StreamingSplit(stream, torch.arange(ITEMS), torch.arange(ITEMS) % 7).to(torch.device("cuda"))
    chunks = torch.randperm(ITEMS, device="cuda").split(9)
    for chunk, (images, labels) in zip(chunks, split.batches(chunks), strict=True):
        assert images.is_cuda
        assert labels.is_cuda
        assert torch.equal(images[:, 0, 0, 0].long(), chunk)
        assert torch.equal(labels, chunk % 7)
