"""Splits too large for the device: worker processes decode ahead, the images go out in the order asked for."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from trainables.config import ConfigError
from trainables.data.image_files import ImageSource
from trainables.data.stratify import IntArray

PIECE_BYTES = 4 << 20
"""Of raw images a worker hands over at once: many pieces make a batch, so that all workers are at each."""
PIECES_AHEAD = 4
"""A worker; with PIECE_BYTES this bounds what lies in shared memory."""
MOST_WORKERS = 8
_CPU: Final = torch.device("cpu")


def worker_count(asked: int) -> int:
    """`asked`, or for 0 one a core that this process may use, 8 at most."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return asked or min(cores, MOST_WORKERS)


class Stream:
    """Worker processes over one source; they start with the first read and live until `close`."""

    def __init__(self, source: ImageSource, workers: int) -> None:
        self.source = source
        self.workers = workers
        self._plan = _Pieces(max(1, PIECE_BYTES // int(np.prod(source.shape))))
        self._loader: DataLoader[Any] | None = None
        self._reads = 0

    def read(self, chunks: Iterable[IntArray], *, pinned: bool = False) -> Iterator[Tensor]:
        """(len(chunk), C, H, W) uint8 for each chunk of places, in order. Ends an earlier read that is under way.

        Raises ConfigError naming a file that cannot be decoded; RuntimeError if a worker process dies.
        """
        if self._loader is None:
            self._loader = DataLoader(
                _Readable(self.source),  # type: ignore[arg-type]  # read by __getitems__ alone
                batch_sampler=self._plan,
                num_workers=self.workers,
                collate_fn=_as_it_is,
                prefetch_factor=PIECES_AHEAD,
                persistent_workers=True,
                generator=torch.Generator(),  # or each read would draw from the trial's random stream
            )
        self._reads += 1
        this_read = self._reads
        self._plan.begin(chunks)
        pieces = iter(self._loader)
        while True:
            if this_read != self._reads:
                raise RuntimeError("a stream gives out one read at a time, and another one was begun")
            # asking for a piece plans ahead, so the first one of a chunk comes before the chunk's size is known
            piece = _next(pieces)
            if piece is None:
                return
            items, count = self._plan.planned.popleft()
            if count == 1 and not pinned:
                yield _whole(piece)
                continue
            batch = torch.empty((items, *self.source.shape), dtype=torch.uint8, pin_memory=pinned)
            filled = 0
            for index in range(count):
                piece = _whole(_next(pieces) if index else piece)
                batch[filled : filled + len(piece)] = piece
                filled += len(piece)
            yield batch

    def close(self) -> None:
        """End the workers; a later read starts new ones."""
        iterator = getattr(self._loader, "_iterator", None)
        self._loader = None
        self._reads += 1
        if iterator is not None:
            # torch has no public way but to wait for the garbage collector
            try:
                iterator._shutdown_workers()
            except RuntimeError:
                # a worker was killed, and torch's signal handler says so once more as the others end
                for worker in iterator._workers:
                    worker.join()


@dataclass(frozen=True)
class StreamingSplit:
    """Some of a stream's images."""

    stream: Stream
    places: Tensor  # (items,) int64, in the stream
    labels: Tensor  # (items,) int64, on the CPU
    device: torch.device = _CPU

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, chunks: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and labels at each chunk's places, in order; a few chunks are taken from `chunks` ahead."""
        asked: deque[Tensor] = deque()

        def places() -> Iterator[IntArray]:
            for chunk in chunks:
                asked.append(chunk.cpu())
                yield self.places[asked[-1]].numpy()

        pinned = self.device.type == "cuda"
        for images in self.stream.read(places(), pinned=pinned):
            labels = self.labels[asked.popleft()]
            yield (
                images.to(self.device, non_blocking=pinned),
                (labels.pin_memory() if pinned else labels).to(self.device, non_blocking=pinned),
            )

    def to(self, device: torch.device) -> StreamingSplit:
        return replace(self, device=device)

    def close(self) -> None:
        self.stream.close()


class _Pieces:
    """A batch sampler: cuts each chunk into the pieces that workers read."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.planned: deque[tuple[int, int]] = deque()  # (items, pieces) of each chunk handed to the workers
        self._chunks: Iterator[IntArray] = iter(())

    def begin(self, chunks: Iterable[IntArray]) -> None:
        self._chunks = iter(chunks)
        self.planned.clear()

    def __iter__(self) -> Iterator[list[int]]:
        for chunk in self._chunks:
            count = max(1, -(-len(chunk) // self.most))
            self.planned.append((len(chunk), count))
            yield from (piece.tolist() for piece in np.array_split(chunk, count))


@dataclass(frozen=True)
class _Readable:
    """A source as torch's loader takes it. Errors travel as values: the loader would wrap them in tracebacks."""

    source: ImageSource

    def __getitems__(self, places: list[int]) -> Tensor | str:
        try:
            return torch.from_numpy(self.source.read(np.array(places, dtype=np.int64)))
        except ConfigError as error:
            return str(error)


def _next(pieces: Iterator[Any]) -> Any:
    """The next piece, or None after the last."""
    try:
        return next(pieces, None)
    except (ConnectionError, EOFError, FileNotFoundError) as error:  # torch tells most deaths, but not in mid-transfer
        raise RuntimeError(f"a process that decodes images died ({error!r})") from error


def _whole(piece: Tensor | str) -> Tensor:
    if isinstance(piece, str):
        raise ConfigError(piece)
    return piece


def _as_it_is(piece: Any) -> Any:
    return piece
