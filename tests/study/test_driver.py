"""Who drives a study, and asking it to stop."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from study.driver import Driver, driver_of
from study.errors import StudyError
from study.home import StudyHome

ROOT = Path(__file__).parents[2]
HOLD = """
import sys, time
from pathlib import Path
from study.home import StudyHome
place = StudyHome(Path(sys.argv[1]), "tiny")
with place.locked():
    try:
        print("held", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


@pytest.fixture
def place(tmp_path: Path) -> StudyHome:
    made = StudyHome(tmp_path, "tiny")
    made.create()
    return made


@pytest.fixture
def holder(place: StudyHome) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the study."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(place.root)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_nobody_drives(place: StudyHome, tmp_path: Path) -> None:
    assert driver_of(place) is None  # the lock was never taken
    assert not place.lock.exists()
    with place.locked():
        pass
    assert driver_of(place) is None
    assert driver_of(StudyHome(tmp_path, "nothing here")) is None


def test_the_driver_is_named(place: StudyHome, holder: subprocess.Popen[str]) -> None:
    driver = driver_of(place)
    assert driver == Driver(holder.pid, socket.gethostname(), place.lock)
    assert str(driver) == f"process {holder.pid}"
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert driver_of(place) is None


def test_to_look_keeps_no_driver_out(place: StudyHome) -> None:
    """The look holds the lock for an instant: a driver that starts in that instant tries again."""
    import fcntl
    import threading

    place.lock.touch()
    with place.lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        timer = threading.Timer(0.07, lambda: fcntl.flock(file, fcntl.LOCK_UN))
        timer.start()
        with place.locked():
            pass
        timer.join()


def test_interrupt_is_ctrl_c(place: StudyHome, holder: subprocess.Popen[str]) -> None:
    driver = driver_of(place)
    assert driver is not None
    driver.interrupt()
    out, _ = holder.communicate(timeout=20)
    assert out == "interrupted\n"


def test_another_host_is_told(place: StudyHome) -> None:
    with pytest.raises(StudyError, match=r"process 7 on far-away, and this is .*; run the same command there"):
        Driver(7, "far-away", place.lock).interrupt()


def test_a_process_that_does_not_hold_the_lock_is_never_signalled(
    place: StudyHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    signalled: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: signalled.append(pid))
    place.lock.touch()
    with pytest.raises(StudyError, match="cannot be seen from here"):
        Driver(os.getpid(), socket.gethostname(), place.lock).interrupt()
    assert signalled == []
    with place.locked():
        Driver(os.getpid(), socket.gethostname(), place.lock).interrupt()
    assert signalled == [os.getpid()]


def test_a_lock_without_a_name(place: StudyHome) -> None:
    """Between taking the lock and writing who took it a driver can be stopped for long."""
    import fcntl

    begun = time.monotonic()
    with place.lock.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        driver = driver_of(place)
    assert driver is not None
    assert driver.host == "an unknown host"
    assert time.monotonic() - begun < 30
