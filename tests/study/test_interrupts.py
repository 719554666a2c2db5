"""Stopping, with real signals to real processes."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from study.interrupts import INTERRUPTED_EXIT_CODE

ROOT = Path(__file__).parents[2]
Start = Callable[[str], "subprocess.Popen[str]"]
SLEEPER = "[sys.executable, '-c', 'import time; time.sleep(60)']"
PRELUDE = """
import signal, subprocess, sys, threading, time
from study import interrupts
from study.interrupts import check_stop, handled, kill_children, patient, stop_requested

def ready(*words):
    print("ready", *words, flush=True)

def wait_for_request(seconds=20):
    end = time.monotonic() + seconds
    while not stop_requested() and time.monotonic() < end:
        time.sleep(0.01)
"""


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a script and wait for its first line, which it prints once it can take a signal."""
    processes: list[subprocess.Popen[str]] = []

    def start_(script: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + textwrap.dedent(script)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield start_
    for process in processes:
        process.kill()
        process.communicate()


def _ready(process: subprocess.Popen[str]) -> list[int]:
    assert process.stdout is not None
    word, *numbers = process.stdout.readline().split()
    assert word == "ready"
    return [int(number) for number in numbers]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_outside_a_patient_block_a_request_raises_at_once(number: signal.Signals, start: Start) -> None:
    process = start("""
        try:
            with handled():
                ready()
                time.sleep(20)
        except KeyboardInterrupt as error:
            print(type(error).__name__, stop_requested())
        """)
    _ready(process)
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert out == "StopRequestedError True\n"
    assert err.strip() == f"{number.name}: stopping; what is done is kept"
    assert process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_inside_a_patient_block_a_request_is_a_flag(number: signal.Signals, start: Start) -> None:
    process = start("""
        with handled():
            with patient():
                ready()
                wait_for_request()
                ready()
                time.sleep(0.3)
                print("to the end")
            try:
                with patient():
                    print("never")
            except KeyboardInterrupt:
                print("refused")
            try:
                check_stop()
            except KeyboardInterrupt:
                print("noticed")
        """)
    _ready(process)
    process.send_signal(number)
    _ready(process)
    process.send_signal(number)  # an impatient user asks twice
    out, err = process.communicate(timeout=20)
    assert out == "to the end\nrefused\nnoticed\n"
    assert err.count("stopping") == 1
    assert process.returncode == 0


def test_what_hangs_is_ended_hard_with_all_its_processes(start: Start) -> None:
    process = start(f"""
        interrupts.HARD_STOP_SECONDS = 0.3
        interrupts.say_if_ended_hard("go on with: this")
        middle = f"import subprocess, sys; subprocess.run({SLEEPER})"
        with handled(), patient():
            subprocess.Popen([sys.executable, "-c", middle])
            import psutil
            while len(family := psutil.Process().children(recursive=True)) < 2:
                time.sleep(0.01)
            ready(*[child.pid for child in family])
            while True:
                time.sleep(1)
        """)
    family = _ready(process)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == INTERRUPTED_EXIT_CODE
    assert out == "go on with: this\n"
    assert not any(_alive(pid) for pid in family)


def test_children_are_killed_with_those_they_leave_behind(start: Start) -> None:
    process = start(f"""
        middle = f"import subprocess, sys; subprocess.run({SLEEPER})"
        subprocess.Popen([sys.executable, "-c", middle])
        import psutil
        while len(family := psutil.Process().children(recursive=True)) < 2:
            time.sleep(0.01)
        ready(*[child.pid for child in family])
        kill_children()
        kill_children()
        print("done", len(psutil.Process().children(recursive=True)))
        """)
    family = _ready(process)
    out, _ = process.communicate(timeout=20)
    assert out == "done 0\n"
    assert process.returncode == 0
    assert not any(_alive(pid) for pid in family)


def test_handlers_are_put_back_and_the_outermost_block_counts(start: Start) -> None:
    process = start("""
        before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        with handled():
            inside = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
            with handled():
                pass
            assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == inside != before
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before

        def elsewhere():
            with handled():
                assert signal.getsignal(signal.SIGINT) is before[0]
            print("a thread keeps its owner's handlers")

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        ready()
        """)
    out, err = process.communicate(timeout=20)
    assert out == "a thread keeps its owner's handlers\nready\n", err
    assert process.returncode == 0


def test_a_new_run_starts_without_the_old_request(start: Start) -> None:
    process = start("""
        for _ in range(2):
            try:
                with handled():
                    assert not stop_requested()
                    ready()
                    wait_for_request()
            except KeyboardInterrupt:
                print("stopped")
        """)
    for _ in range(2):
        _ready(process)
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert process.stdout.readline() == "stopped\n"
    assert process.wait(timeout=20) == 0


def _alive(pid: int) -> bool:
    end = time.monotonic() + 5
    while time.monotonic() < end:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return False
        except psutil.NoSuchProcess:
            return False
        time.sleep(0.05)
    return True
