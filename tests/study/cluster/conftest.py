"""A cluster as a user starts it: `ray start`, with its dashboard, in a folder and on ports of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[3]
RAY = str(Path(sys.executable).with_name("ray"))
ONE_CPU = ("--num-cpus=1", "--block", "--disable-usage-stats")
Finished = subprocess.CompletedProcess[str]


# A machine of its own as far as files go: the second node sees neither this checkout nor the driver's private folder.
BEHIND_A_WALL = """
import os, subprocess, sys
end = sys.argv.index("--")
for folder in sys.argv[1:end]:
    subprocess.run(["mount", "-t", "tmpfs", "none", folder], check=True)
command = sys.argv[end + 1 :]
os.execv(command[0], command)
"""


@dataclass(frozen=True)
class StartedCluster:
    address: str
    dashboard: str
    env: Mapping[str, str]  # for whoever works with it
    private: Path  # only the driver's node sees what is in it
    walled: bool  # whether that could be arranged

    def call(self, *command: str, cwd: Path = ROOT, env: Mapping[str, str] | None = None) -> Finished:
        """Run a command to its end."""
        whole = {**self.env, **(env or {})}
        return subprocess.run(command, env=whole, cwd=cwd, capture_output=True, text=True, timeout=400)

    def until(self, question: Callable[[], bool]) -> None:
        """Ask until yes."""
        wait_for(question, 120)


@pytest.fixture(scope="module")
def started() -> Iterator[StartedCluster]:
    """Two raylets of one CPU each, with a token, as on two machines."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # short: Ray's sockets lie below it
    private = Path(tempfile.mkdtemp(prefix="private-", dir="/tmp"))
    env = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "STUDY_", "MLFLOW_"))}
    env |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "0123456789abcdef" * 4,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TMPDIR": str(folder),
    }
    port, dashboard = free_port(), free_port()
    address = f"127.0.0.1:{port}"
    # From a folder without our code, which must not be found by luck of the path.
    reached = ("--dashboard-host=0.0.0.0", f"--dashboard-port={dashboard}")
    nodes = [begin_node(env, folder, "--head", f"--port={port}", *reached)]
    try:
        wait_for(lambda: listening(port) and listening(dashboard), 120)
        wall = walls(folder, private)
        nodes.append(begin_node(env, folder, f"--address={address}", wall=wall))
        wait_for(lambda: alive_nodes(address, env) == 2, 120)
        env["PYTHONPATH"] = str(ROOT)
        # From outside: Ray's own choice, 127.0.0.1 alone, does not answer there.
        yield StartedCluster(address, f"http://127.0.0.2:{dashboard}", env, private, walled=bool(wall))
    finally:
        ours = [process for node in nodes for process in tree(node.pid)]
        for node in nodes:
            node.terminate()
        psutil.wait_procs(ours, timeout=20)
        for process in [*ours, *(other for other in psutil.process_iter() if str(folder) in line(other))]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(private, ignore_errors=True)


def begin_node(env: Mapping[str, str], folder: Path, *words: str, wall: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    temp = [f"--temp-dir={folder}"] if "--head" in words else []
    return subprocess.Popen(
        # Each agent its own port, as it has on a machine of its own: without an agent a node takes no jobs.
        [*wall, RAY, "start", *words, *temp, *ONE_CPU, f"--dashboard-agent-listen-port={free_port()}"],
        env={name: value for name, value in env.items() if name != "PYTHONPATH"},
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def walls(folder: Path, private: Path) -> list[str]:
    """What to put before a command to hide folders from it; nothing where the system does not let us."""
    # The head's session folder too: nodes that share one delete each other's copies of what was shipped.
    hidden = [str(folder), str(private)]
    if not Path(sys.prefix).is_relative_to(ROOT):
        hidden.append(str(ROOT))
    wall = ["unshare", "--mount", sys.executable, "-c", BEHIND_A_WALL, *hidden, "--"]
    try:
        done = subprocess.run([*wall, "/bin/true"], capture_output=True, timeout=20)
    except OSError:
        return []
    return wall if done.returncode == 0 else []


def alive_nodes(address: str, env: Mapping[str, str]) -> int:
    done = subprocess.run([RAY, "status", "--address", address], env=dict(env), capture_output=True, text=True)
    active = done.stdout.partition("Active:")[2].partition("Pending:")[0]
    return sum("node_" in line for line in active.splitlines())


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
