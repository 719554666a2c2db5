"""What a run really costs: CPU seconds and peak memory of the whole process tree, sampled from /proc."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

SAMPLE_SECONDS = 2.0


@dataclass(frozen=True)
class Usage:
    """CPU seconds and peak memory of this process and all that descends from it."""

    cpu_seconds: float
    peak_memory_bytes: int  # PSS: shared pages are divided among those who share them
    wall_seconds: float


class Meter:
    """Samples the process tree in a thread; what a process uses after its last sample is not counted."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._cpu: dict[tuple[int, float], float] = {}
        self._peak = 0
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="meter", daemon=True)
        self._thread.start()

    def stop(self) -> Usage:
        """Take a last sample and end the thread."""
        self._stop.set()
        self._thread.join()
        self.sample()
        return self.usage()

    def usage(self) -> Usage:
        """What has been used so far."""
        with self._lock:
            return Usage(sum(self._cpu.values()), self._peak, time.monotonic() - self._begun)

    def sample(self) -> None:
        """Look at the tree now."""
        memory = 0
        cpu: dict[tuple[int, float], float] = {}
        me = psutil.Process()
        for process in [me, *me.children(recursive=True)]:
            try:
                times = process.cpu_times()
                cpu[process.pid, process.create_time()] = times.user + times.system
                memory += _pss_bytes(process.pid)
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
        with self._lock:
            self._cpu |= cpu
            self._peak = max(self._peak, memory)

    def _run(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            self.sample()


def _pss_bytes(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
