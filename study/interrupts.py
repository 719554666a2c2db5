"""Ctrl-C and SIGTERM: one request to stop, noticed by every part of a run, and a hard end where something hangs."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Final

import psutil

HARD_STOP_SECONDS: Final = 8.0
INTERRUPTED_EXIT_CODE: Final = 130

_requested = threading.Event()
_inside_sweep = threading.Event()


class StopRequestedError(KeyboardInterrupt):
    """Raised in the main thread where a stop is asked for outside the sweep; not an Exception, so nothing swallows it."""


def stop_requested() -> bool:
    """Whether a stop has been asked for."""
    return _requested.is_set()


def check_stop() -> None:
    """Raise where a stop has been asked for.

    Raises:
        StopRequestedError: a stop was asked for.
    """
    if _requested.is_set():
        raise StopRequestedError


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Take SIGINT and SIGTERM for requests to stop while the block runs (main thread only)."""
    if threading.current_thread() is not threading.main_thread():
        yield  # a notebook's or server's thread: its owner keeps the signals
        return
    _requested.clear()
    before = {number: signal.signal(number, _on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def sweep_running() -> Iterator[None]:
    """While the block runs, a request sets the flag only: the sweep looks at it and ends by itself."""
    check_stop()
    _inside_sweep.set()
    try:
        yield
    finally:
        _inside_sweep.clear()


def _on_signal(number: int, frame: FrameType | None) -> None:
    first = not _requested.is_set()
    _requested.set()
    if first:
        print(f"\n{signal.Signals(number).name}: stopping; what is done is kept", file=sys.stderr, flush=True)
        threading.Thread(target=_end_hard, name="hard-stop", daemon=True).start()
    if not _inside_sweep.is_set():
        raise StopRequestedError


def _end_hard() -> None:
    """End every process of ours where an orderly stop takes too long: the ledger is written, checkpoints are atomic."""
    time.sleep(HARD_STOP_SECONDS)
    print("stopping took too long; ending every process of this run", file=sys.stderr, flush=True)
    kill_children()
    os._exit(INTERRUPTED_EXIT_CODE)


def kill_children() -> None:
    """SIGKILL every process that descends from this one."""
    children = psutil.Process().children(recursive=True)
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    psutil.wait_procs(children, timeout=2)
