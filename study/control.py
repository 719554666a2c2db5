"""What a user asks of a running study: a file of requests in its folder that the driver reads as it goes.

One line a request, appended in one write: writers need no lock, and a reader takes whole lines only. The file stays,
so a cell that was stopped stays stopped over resumes until it is let go on.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

_STOP_TRIAL, _STOP_CELL, _GO_ON_CELL = "stop trial", "stop cell", "go on cell"


@dataclass(frozen=True)
class Requests:
    """What was asked for so far."""

    trials: frozenset[str] = frozenset()  # keys of trials to stop
    cells: frozenset[str] = frozenset()  # names of cells that start no further trials


class Control:
    """The file of requests of one study."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_bytes = 0
        self._requests = Requests()

    def stop_trial(self, key: str) -> None:
        """Ask that a running trial end now."""
        self._append(_STOP_TRIAL, key)

    def stop_cell(self, name: str) -> None:
        """Ask that a cell start no further trials."""
        self._append(_STOP_CELL, name)

    def go_on_with_cell(self, name: str) -> None:
        """Take back `stop_cell`."""
        self._append(_GO_ON_CELL, name)

    def requests(self) -> Requests:
        """All that was asked for; only what is new is read, so a driver may look as often as it likes."""
        try:
            if self._path.stat().st_size <= self._read_bytes:
                return self._requests
            with self._path.open("rb") as file:
                file.seek(self._read_bytes)
                data = file.read()
        except OSError:
            return self._requests
        whole = data[: data.rfind(b"\n") + 1]
        self._read_bytes += len(whole)
        trials, cells = set(self._requests.trials), set(self._requests.cells)
        for line in whole.decode("utf-8", errors="replace").splitlines():
            match _parsed(line):
                case (str(what), str(name)) if what == _STOP_TRIAL:
                    trials.add(name)
                case (str(what), str(name)) if what == _STOP_CELL:
                    cells.add(name)
                case (str(what), str(name)) if what == _GO_ON_CELL:
                    cells.discard(name)
        self._requests = Requests(frozenset(trials), frozenset(cells))
        return self._requests

    def _append(self, what: str, name: str) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, (json.dumps({"ask": what, "of": name}) + "\n").encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def stopped_cells(path: Path) -> tuple[str, ...]:
    """The cells that a study's file of requests holds back, by name."""
    return tuple(sorted(Control(path).requests().cells))


def _parsed(line: str) -> tuple[object, object] | None:
    """A request as (what, of); None for a line that is none."""
    try:
        request = json.loads(line)
        return request["ask"], request["of"]
    except (ValueError, TypeError, KeyError):
        return None
