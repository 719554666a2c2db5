"""Notes for MLflow, and the file that holds those which are not known to have arrived."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass
class Notes:
    """What is to be told of one run. Plain data, so that it can be spooled."""

    key: str  # unique in its study: "study", "cell:<name>" or a job's key
    parent: str | None  # key of the parent run
    name: str
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    metrics: list[tuple[str, float, int, int]] = field(default_factory=list)  # key, value, epoch, milliseconds
    artifacts: list[str] = field(default_factory=list)
    ended: str | None = None  # MLflow's status: FINISHED, FAILED or KILLED
    start_ms: int = 0
    end_ms: int = 0

    def merge(self, later: Notes) -> None:
        """Add what a later note of the same run says."""
        self.tags |= later.tags
        self.params |= later.params
        self.metrics += later.metrics
        self.artifacts += later.artifacts
        if later.start_ms:  # begun, perhaps once more after an interruption: whatever ended it before is past
            self.start_ms = self.start_ms or later.start_ms
            self.ended = None
        if later.ended is not None:
            self.ended, self.end_ms = later.ended, later.end_ms


class Spool:
    """A file of notes, a line each. A disk that refuses it costs the safety net, not the study."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def read(self) -> list[Notes]:
        """What an earlier session left; a last line that was torn by a kill is dropped."""
        found = []
        with contextlib.suppress(OSError):
            data = self._path.read_bytes()
            whole = data[: data.rfind(b"\n") + 1]
            if len(whole) < len(data):
                self._path.write_bytes(whole)
            for line in whole.splitlines():
                with contextlib.suppress(ValueError, TypeError, KeyError):
                    fields = json.loads(line)
                    fields["metrics"] = [tuple(metric) for metric in fields["metrics"]]
                    found.append(Notes(**fields))
        return found

    def add(self, notes: Notes, then: Callable[[], None]) -> None:
        """Append the notes, then do `then` before `clear` can come between."""
        line = json.dumps(asdict(notes)) + "\n"
        with self._lock:
            with contextlib.suppress(OSError), self._path.open("a", encoding="utf-8") as file:
                file.write(line)
            then()

    def clear(self, unless: Callable[[], bool]) -> None:
        """Everything has arrived, `unless` says that more was added since."""
        with self._lock, contextlib.suppress(OSError):
            if not unless():
                self._path.unlink(missing_ok=True)
