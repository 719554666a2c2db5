"""Time that work takes on a device, and moments at which all workers look up from it together."""

from __future__ import annotations

import time

import torch

from trainables.workers import Workers


class Stopwatch:
    """Seconds from its making to the first call of `seconds`. On a GPU by CUDA events: the work, not its launch."""

    def __init__(self, device: torch.device) -> None:
        self._started = time.perf_counter()
        self._events = None
        if device.type == "cuda":
            self._events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]  # type: ignore[no-untyped-call]
            self._events[0].record()

    def seconds(self) -> float:
        """Waits for the device's work so far."""
        if self._events is None:
            return time.perf_counter() - self._started
        first, last = self._events
        last.record()
        last.synchronize()
        return float(first.elapsed_time(last)) / 1000.0


class Moments:
    """Says about every `seconds` that it is time, on all workers at the same call.

    A single worker asks its clock. Several count calls, as clocks differ: at each moment the first worker tells the
    others how many calls the next one is away.
    """

    def __init__(self, workers: Workers, seconds: float) -> None:
        self._workers = workers
        self._seconds = seconds
        self._last = time.monotonic()
        self._calls = 0
        self._next = 1

    def due(self) -> bool:
        """Whether now is one; every worker must call this equally often."""
        now = time.monotonic()
        if self._workers.size == 1:
            if now - self._last < self._seconds:
                return False
            self._last = now
            return True
        self._calls += 1
        if self._calls < self._next:
            return False
        pace = self._calls * self._seconds / max(now - self._last, 1e-9)
        # at most tenfold, so that one quick start does not put the next moment far away
        wanted = torch.tensor([min(max(1.0, pace), 10.0 * self._next) if self._workers.rank == 0 else 0.0])
        self._next = max(1, int(self._workers.sum(wanted)))
        self._calls, self._last = 0, now
        return True
