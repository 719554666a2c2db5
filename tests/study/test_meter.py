"""Cost of a process tree, against processes whose cost is known."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from study import meter
from study.meter import Meter, Usage

MIB = 1 << 20
BURN = """
import sys, time
block = bytearray(64 << 20)
block[::4096] = b"x" * len(block[::4096])
while time.process_time() < 0.6:
    pass
print("burnt", flush=True)
sys.stdin.read()
"""
NESTED = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN!r}])"


# In an interpreter of its own: what a large process shares with others, and so its own PSS, moves as they come and go.
MEASURE = """
import dataclasses, json, subprocess, sys
from study.meter import Meter
measured = Meter()
measured.sample()
usages = [measured.usage()]
with subprocess.Popen(
    [sys.executable, "-c", sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
) as child:
    assert child.stdout.readline() == "burnt\\n"
    measured.sample()
    usages.append(measured.usage())
    child.communicate("")
usages.append(measured.stop())
print(json.dumps([dataclasses.asdict(usage) for usage in usages]))
"""


@pytest.mark.parametrize("script", [BURN, NESTED], ids=["child", "grandchild"])
def test_descendants_are_counted(script: str) -> None:
    done = subprocess.run([sys.executable, "-c", MEASURE, script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    before, alive, after = (Usage(**usage) for usage in json.loads(done.stdout))
    assert 0.55 < alive.cpu_seconds - before.cpu_seconds < 3
    assert 60 * MIB < alive.peak_memory_bytes - before.peak_memory_bytes < 120 * MIB
    assert after.cpu_seconds >= alive.cpu_seconds  # what a process used stays when it is gone
    assert after.peak_memory_bytes >= alive.peak_memory_bytes  # a peak stays a peak
    assert after.wall_seconds > 0.5


def test_it_samples_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter, "SAMPLE_SECONDS", 0.02)
    measured = Meter()
    sum(range(3_000_000))
    while measured.usage().peak_memory_bytes == 0:
        pass
    assert measured.usage().cpu_seconds > 0
    measured.stop()
    assert not measured._thread.is_alive()


def test_processes_that_end_meanwhile_do_no_harm() -> None:
    measured = Meter()
    children = [subprocess.Popen([sys.executable, "-c", "pass"]) for _ in range(4)]
    while any(child.poll() is None for child in children):
        measured.sample()
    assert measured.stop().cpu_seconds > 0
