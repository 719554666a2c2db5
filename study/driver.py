"""Who drives a study right now: read from its lock, which the system frees when a driver dies. Writes nothing."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from study.errors import StudyError
from study.home import StudyHome

_PATIENCE_SECONDS = 0.5  # between taking the lock and writing who took it


@dataclass(frozen=True)
class Driver:
    """The process that runs a study's sweep."""

    pid: int
    host: str
    lock: Path

    @property
    def on_this_host(self) -> bool:
        return self.host == socket.gethostname()

    def __str__(self) -> str:
        return f"process {self.pid}" + ("" if self.on_this_host else f" on {self.host}")

    def interrupt(self) -> None:
        """Ask it to stop, as Ctrl-C does.

        Raises:
            StudyError: it runs on another host, or cannot be signalled from here.
        """
        if not self.on_this_host:
            raise StudyError(
                f"the study is driven by process {self.pid} on {self.host}, and this is {socket.gethostname()}; "
                "run the same command there"
            )
        if not self._holds_the_lock():  # another container's process ids are not ours
            raise StudyError(
                f"process {self.pid} drives the study but cannot be seen from here (another user's or container's); "
                "press Ctrl-C where it runs"
            )
        try:
            os.kill(self.pid, signal.SIGINT)
        except ProcessLookupError:
            return
        except PermissionError:
            raise StudyError(
                f"process {self.pid} drives the study and belongs to another user; stop it as them"
            ) from None

    def _holds_the_lock(self) -> bool:
        try:
            return any(os.path.samefile(link, self.lock) for link in _open_files(self.pid))
        except OSError:
            return False


def driver_of(place: StudyHome) -> Driver | None:
    """The driver of a study; None where nothing drives it."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            with place.lock.open(encoding="utf-8") as file:
                try:
                    # Shared, and only for an instant: a driver that starts meanwhile tries more than once.
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    return None
                except BlockingIOError:
                    words = file.read().split()
        except OSError:
            return None
        if len(words) >= 2 and words[0].isdecimal():
            return Driver(int(words[0]), words[1], place.lock)
        if time.monotonic() > deadline:
            return Driver(0, "an unknown host", place.lock)
        time.sleep(0.02)


def _open_files(pid: int) -> list[str]:
    folder = f"/proc/{pid}/fd"
    return [path for name in os.listdir(folder) if os.path.exists(path := f"{folder}/{name}")]
