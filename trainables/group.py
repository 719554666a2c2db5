"""What the workers of a trial and the trial tell each other, free of Ray: the plan, the mailbox, the orders."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

# Kinds of mail from a group to its trial.
BEGUN: Final = "begun"
FACTS: Final = "facts"
LAYERS: Final = "layers"
REPORT: Final = "report"
TRACEBACK: Final = "traceback"
LOST: Final = "lost"
OUTCOME: Final = "outcome"


class CheckpointFolder(Protocol):
    """Where a trial's checkpoints are, as each of its processes sees them. Pickled to every worker."""

    def open(self) -> Path:
        """A local folder with what there is; `close` it in the end."""

    def saved(self) -> None:
        """Called after each epoch and at the end, by the process that writes: what is new is safe when it returns."""

    def close(self) -> None:
        """Called at the end, by every process."""


@dataclass(frozen=True)
class GroupPlan:
    """A worker group: so many processes, each with these resources (`{"CPU": 1.0, "GPU": 1.0}`)."""

    workers: int
    bundle: Mapping[str, float]
    restarts: int  # how often a trial's lost workers are replaced


@dataclass(frozen=True)
class Order:
    """One trial for a group to train."""

    config: Mapping[str, Any]  # TrialConfig.to_dict()
    folder: CheckpointFolder
    rungs: frozenset[int]  # epochs at which rank 0 waits for a verdict


class WorkersLostError(RuntimeError):
    """Workers were lost more often than they are replaced."""


class Mailbox:
    """Orders from the trial to all ranks, mail from rank 0 to the trial, verdicts back.

    Lives in an asyncio loop, as part of an actor. Orders are numbered from 1; what belongs to an order that is over is
    dropped. A group that was replaced finds the open order again.
    """

    def __init__(self) -> None:
        self._number = 0
        self._order: Order | None = None  # the open one
        self._mail: list[tuple[str, Any]] = []
        self._arrived, self._news, self._verdict, self._stop = (asyncio.Event() for _ in range(4))

    async def give(self, order: Order) -> int:
        """The trial's next order; returns its number."""
        await self.ask_stop()  # whoever still waits for the order before
        self._number += 1
        self._order = order
        self._mail = []
        self._news, self._verdict, self._stop = (asyncio.Event() for _ in range(3))
        self._arrived.set()
        return self._number

    async def take(self, after: int) -> tuple[int, Order]:
        """A rank's next order, with its number: the open one, once that is not `after`, which the rank has done."""
        while self._order is None or self._number == after:
            self._arrived.clear()
            await self._arrived.wait()
        return self._number, self._order

    def post(self, kind: str, item: Any) -> None:
        """Put something in for the trial, from within the loop."""
        self._mail.append((kind, item))
        self._news.set()

    async def deliver(self, number: int, kind: str, item: Any, waits: bool = False) -> bool:
        """A rank's word to the trial; where it `waits`, until `go_on` or a stop. Returns whether a stop was asked."""
        if number != self._number:
            return True
        verdict, stop = self._verdict, self._stop
        if waits:
            verdict.clear()
        if kind == OUTCOME:
            self._order = None
        self.post(kind, item)
        if waits and not stop.is_set():
            await verdict.wait()
        return stop.is_set()

    async def collect(self, seconds: float) -> list[tuple[str, Any]]:
        """The trial's way to its mail: what has come, or what comes first within `seconds`."""
        if not self._mail:
            try:
                await asyncio.wait_for(self._news.wait(), seconds)
            except TimeoutError:
                return []
        mail, self._mail = self._mail, []
        self._news.clear()
        return mail

    async def go_on(self) -> None:
        """The verdict of a rung: train on."""
        self._verdict.set()

    async def ask_stop(self) -> None:
        """Have the loop stop as soon as it can, with a checkpoint."""
        self._stop.set()
        self._verdict.set()

    async def wait_for_stop(self, number: int) -> None:
        """Returns once the order is to be stopped, or is over."""
        if number == self._number:
            await self._stop.wait()
