"""CPU seconds and peak memory of a command and everything that it starts, for the benchmarks beside this file.

CPU: a cgroup of its own where one can be made (Linux as root), which misses no process however short-lived; else own
CPU times of every process of the tree, sampled each `SAMPLE_SECONDS` and keyed by (pid, start time), which misses what
lives shorter than that. Memory: PSS summed over the tree, sampled each `MEMORY_SECONDS`.
"""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

SAMPLE_SECONDS = 0.2
MEMORY_SECONDS = 1.0
LINGER_SECONDS = 20.0  # for processes that outlive the command; their CPU counts
IDLE = "ray worker, idle"
CGROUPS = (  # mount point, file with the CPU time used, word before the number in it, its unit in seconds
    (Path("/sys/fs/cgroup/cpuacct"), "cpuacct.usage", "", 1e-9),
    (Path("/sys/fs/cgroup"), "cpu.stat", "usage_usec", 1e-6),
)


@dataclass(frozen=True)
class Cost:
    cpu_seconds: float
    wall_seconds: float
    peak_pss_bytes: int
    by_role: Mapping[str, float]  # role of a process -> CPU seconds, sampled
    method: str
    left_over: int  # processes that had to be killed
    status: int


def run_metered(command: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path, limit: float) -> Cost:
    """Run a command to its end and meter it.

    Raises:
        TimeoutError: it took longer than `limit` seconds; all its processes are killed.
    """
    with _cgroup() as group, log.open("wb") as out:
        if group is not None:
            # The shell enters the group before it becomes the command, so nothing runs outside.
            command = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group.folder / "cgroup.procs"), *command]
        begun = time.monotonic()
        process = subprocess.Popen(command, env=dict(env), cwd=cwd, stdout=out, stderr=subprocess.STDOUT)
        sampler = _Sampler(process.pid, group)
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"not done after {limit:.0f} s: {' '.join(command)}; its output is in {log}") from None
        finally:
            wall = time.monotonic() - begun
            left_over = sampler.stop(linger=LINGER_SECONDS if process.poll() is not None else 0.0)
        cpu = sum(sampler.by_role.values()) if group is None else group.cpu_seconds()
    method = f"sampled every {SAMPLE_SECONDS} s" if group is None else "cgroup"
    return Cost(cpu, wall, sampler.peak, sampler.by_role, method, left_over, process.returncode)


@dataclass(frozen=True)
class _Group:
    folder: Path
    usage: str
    word: str
    unit: float

    def cpu_seconds(self) -> float:
        lines = (self.folder / self.usage).read_text().splitlines()
        return next(float(line[len(self.word) :]) for line in lines if line.startswith(self.word)) * self.unit

    def pids(self) -> list[int]:
        return [int(pid) for pid in (self.folder / "cgroup.procs").read_text().split()]


@contextlib.contextmanager
def _cgroup() -> Iterator[_Group | None]:
    for mount, usage, word, unit in CGROUPS:
        folder = mount / f"metered-{os.getpid()}-{time.monotonic_ns()}"
        try:
            folder.mkdir()
            if not (folder / usage).exists() or not os.access(folder / "cgroup.procs", os.W_OK):
                raise OSError
        except OSError:
            with contextlib.suppress(OSError):
                folder.rmdir()
            continue
        try:
            yield _Group(folder, usage, word, unit)
        finally:
            _remove(folder)
        return
    yield None


def _remove(folder: Path) -> None:
    """A group is busy until the last of its killed processes has been reaped."""
    for _ in range(100):
        with contextlib.suppress(OSError):
            folder.rmdir()
            return
        time.sleep(0.1)


class _Sampler:
    """Looks at the tree in a thread of this process, whose CPU is not the command's."""

    def __init__(self, root: int, group: _Group | None) -> None:
        self._root = root
        self._group = group
        self._cpu: dict[tuple[int, float], float] = {}
        self._roles: dict[tuple[int, float], str] = {}
        self._seen: dict[int, psutil.Process] = {}
        self._stop = threading.Event()
        self.peak = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def by_role(self) -> dict[str, float]:
        roles: dict[str, float] = {}
        for key, seconds in self._cpu.items():
            role = self._roles.get(key) or "other"  # it may have ended before it was asked
            roles[role] = roles.get(role, 0.0) + seconds
        return roles

    def stop(self, linger: float) -> int:
        """Wait for the tree's last processes, then kill what is left; returns how many that were."""
        deadline = time.monotonic() + linger
        while (left := self._alive()) and time.monotonic() < deadline:
            time.sleep(SAMPLE_SECONDS)
        self._stop.set()
        self._thread.join()
        while alive := self._alive():
            for process in alive:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGKILL)
            psutil.wait_procs(alive, timeout=1)
        return len(left)

    def _run(self) -> None:
        memory_due = 0.0
        while not self._stop.wait(SAMPLE_SECONDS):
            alive = self._alive()
            for process in alive:
                with contextlib.suppress(psutil.Error):
                    times = process.cpu_times()
                    key = process.pid, process.create_time()
                    self._cpu[key] = times.user + times.system
                    role = _role(process.cmdline())
                    if key not in self._roles or role not in ("", IDLE):
                        self._roles[key] = role  # what a worker was last busy with
            if time.monotonic() >= memory_due:
                self.peak = max(self.peak, sum(map(_pss_bytes, alive)))
                memory_due = time.monotonic() + MEMORY_SECONDS

    def _alive(self) -> list[psutil.Process]:
        if self._group is not None:
            pids = self._group.pids()
        else:  # orphans are found again among those seen before
            pids = list(self._seen)
            with contextlib.suppress(psutil.NoSuchProcess):
                root = psutil.Process(self._root)
                pids += [root.pid, *(child.pid for child in root.children(recursive=True))]
        for pid in pids:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._seen.setdefault(pid, psutil.Process(pid))
        alive = []
        for pid in dict.fromkeys(pids):
            process = self._seen.get(pid)
            with contextlib.suppress(psutil.NoSuchProcess):
                if process is not None and process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    alive.append(process)
                    continue
            self._seen.pop(pid, None)
        return alive


def _role(command: Sequence[str]) -> str:
    line = " ".join(command)  # empty while a process ends
    for mark, role in (
        ("raylet/raylet", "raylet"),  # first: it is given the commands of other roles
        ("gcs_server", "gcs"),
        ("ray::IDLE", IDLE),
        ("default_worker.py", IDLE),
        ("setup_worker.py", IDLE),
        ("ray::DashboardAgent", "ray agents"),
        ("ray::RuntimeEnvAgent", "ray agents"),
        ("ray::", "trials"),
        ("dashboard/agent.py", "ray agents"),
        ("runtime_env/agent", "ray agents"),
        ("ray-dashboard", "dashboard"),
        ("dashboard", "dashboard"),
        ("log_monitor", "log monitor"),
        ("monitor.py", "ray monitor"),
    ):
        if mark in line:
            return role
    if not line:
        return ""
    return "driver" if "python" in line else "other"


def _pss_bytes(process: psutil.Process) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
