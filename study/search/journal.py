"""The study's journal file: Optuna's own format, written by one process alone, with one disk flush an event.

`optuna.storages.journal.JournalFileBackend` reads the same file, and so does optuna-dashboard. That class serves many
writers: it takes a lock, opens the file, flushes it to disk and reads it back for each single fact. The driver holds
the study's lock already, so here the file stays open, what was just written is handed back from memory, and the facts
of one event reach the disk together.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend


class OneWriterJournal(BaseJournalBackend):
    """Optuna's journal for the only process that writes it.

    Args:
        path: the file; made where it is missing. A torn last line must have been mended before.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("ab")
        self._unread: list[dict[str, Any]] | None = None  # None: nothing was read yet, all is in the file
        self._count = 0  # lines that were read or written
        self._batches = 0

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        """What follows the given line; Optuna asks for what it has not read yet."""
        if self._unread is None:
            with self._path.open("rb") as file:
                self._unread = [json.loads(line) for line in file]
            self._count = len(self._unread)
        first = self._count - len(self._unread)
        if log_number_from < first:
            raise RuntimeError(f"line {log_number_from} of {self._path} was read before; {first} is next")
        found, self._unread = self._unread[log_number_from - first :], []
        return found

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write lines; within a batch they reach the disk at its end."""
        lines = [json.dumps(log, separators=(",", ":")) for log in logs]
        self._file.write("".join(f"{line}\n" for line in lines).encode())
        if self._unread is not None:
            self._unread += [json.loads(line) for line in lines]
            self._count += len(lines)
        if not self._batches:
            self._flush()

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """Facts of one event: written together. Batches may nest; the outermost counts."""
        self._batches += 1
        try:
            yield
        finally:
            self._batches -= 1
            if not self._batches:
                self._flush()

    def close(self) -> None:
        self._file.close()

    def _flush(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())


def mend_journal(path: Path) -> None:
    """Make a journal readable after a kill: drop a torn last line and the lock file that a reader's kill may have left.

    Only the driver that holds the study's lock may call this.
    """
    path.with_name(path.name + ".lock").unlink(missing_ok=True)
    if not path.exists():
        return
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        with path.open("r+b") as file:
            file.truncate(whole)
