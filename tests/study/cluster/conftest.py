"""A cluster as a user starts it: `ray start`, with its dashboard, in a folder and on ports of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[3]
RAY = str(Path(sys.executable).with_name("ray"))
Finished = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class StartedCluster:
    address: str
    dashboard: str
    env: Mapping[str, str]  # for whoever works with it

    def call(self, *command: str, cwd: Path = ROOT, timeout: float = 400) -> Finished:
        return subprocess.run(command, env=dict(self.env), cwd=cwd, capture_output=True, text=True, timeout=timeout)

    def begin(self, *command: str, cwd: Path = ROOT) -> subprocess.Popen[str]:
        out = subprocess.PIPE
        return subprocess.Popen(command, env=dict(self.env), cwd=cwd, stdout=out, stderr=subprocess.STDOUT, text=True)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartedCluster]:
    """Two raylets of one CPU each, with a token, as on two machines."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # short: Ray's sockets lie below it
    env = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "STUDY_", "MLFLOW_"))}
    env |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "0123456789abcdef" * 4,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TMPDIR": str(folder),
        "PYTHONPATH": str(ROOT),
    }
    port, dashboard = free_port(), free_port()
    cluster = StartedCluster(f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}", env)
    before = {process.pid for process in psutil.process_iter()}
    head = (f"--port={port}", f"--dashboard-port={dashboard}", f"--temp-dir={folder}")
    nodes = [
        # From another folder: the packages must not be found by luck of the path.
        subprocess.Popen(
            [RAY, "start", *words, "--node-ip-address=127.0.0.1", "--num-cpus=1", "--block", "--disable-usage-stats"],
            env={name: value for name, value in env.items() if name != "PYTHONPATH"},
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for words in (("--head", *head),)
    ]
    wait_for(lambda: listening(port) and listening(dashboard), 120)
    nodes.append(
        subprocess.Popen(
            [RAY, "start", f"--address={cluster.address}", "--num-cpus=1", "--block", "--disable-usage-stats"],
            env={name: value for name, value in env.items() if name != "PYTHONPATH"},
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    )
    try:
        yield cluster
    finally:
        ours = [child for node in nodes for child in tree(node.pid)]
        for node in nodes:
            node.terminate()
        psutil.wait_procs(ours, timeout=20)
        for process in ours + [p for p in psutil.process_iter() if p.pid not in before and str(folder) in line(p)]:
            if process.is_running():
                process.kill()
        shutil.rmtree(folder, ignore_errors=True)


def tree(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for(question: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < deadline, "not within its time"
        time.sleep(0.2)
