"""What a study has spent, by cell, and whether that was its budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from study.sections import BudgetSpec


class Spending:
    """Wall time and device-seconds of a study: what its earlier sessions noted, and what this one adds.

    A trial's device-seconds are its wall time times the devices that it holds, whatever becomes of it.

    Args:
        budget: the study file's section.
        devices: that each trial holds.
        earlier: the sessions in the study's facts.
    """

    def __init__(
        self,
        budget: BudgetSpec,
        devices: float,
        earlier: Iterable[Mapping[str, Any]] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._budget = budget
        self._devices = devices
        self._clock = clock
        self._begun = clock()
        self._started: dict[str, tuple[str, float]] = {}  # job's key -> cell, when
        self._ended: dict[str, float] = {}
        sessions = list(earlier)
        self._earlier_wall = sum(session["wall_seconds"] for session in sessions)
        self._earlier_devices = sum(total_device_seconds(sessions).values())

    def started(self, key: str, cell: str) -> None:
        self._started[key] = (cell, self._clock())

    def ended(self, key: str) -> None:
        cell, begun = self._started.pop(key)
        self._ended[cell] = self._ended.get(cell, 0.0) + self._devices * (self._clock() - begun)

    def device_seconds(self) -> dict[str, float]:
        """This session's, by cell; trials that are under way included."""
        now, found = self._clock(), dict(self._ended)
        for cell, begun in self._started.values():
            found[cell] = found.get(cell, 0.0) + self._devices * (now - begun)
        return {cell: round(seconds, 1) for cell, seconds in sorted(found.items())}

    def spent(self) -> str | None:
        """The budget that is spent, in words; None while there is room."""
        budget = self._budget
        if budget.wall_seconds is not None:
            wall = self._earlier_wall + self._clock() - self._begun
            if wall >= budget.wall_seconds:
                return f"budget.wall={budget.wall}"
        if budget.device_seconds is not None:
            now = self._clock()
            running = sum(now - begun for _, begun in self._started.values())
            devices = self._earlier_devices + sum(self._ended.values()) + self._devices * running
            if devices >= budget.device_seconds:
                return f"budget.device_hours={budget.device_hours:g}"
        return None


def total_device_seconds(sessions: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Device-seconds by cell over the sessions in a study's facts."""
    total: dict[str, float] = {}
    for session in sessions:
        for cell, seconds in session.get("device_seconds", {}).items():
            total[cell] = total.get(cell, 0.0) + seconds
    return total
