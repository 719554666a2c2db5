"""Ctrl-C and SIGTERM: one request to stop, noticed by every part of a run, and a hard end where something hangs.

Outside a `patient` block a request raises in the main thread at once; inside, it only sets the flag that the block's
code looks at, because what runs there (starting Ray, the sweep) must be ended in order.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final, TypeVar

from study.names import INTERRUPTED_EXIT_CODE

HARD_STOP_SECONDS: Final = 8.0
_PR_SET_CHILD_SUBREAPER: Final = 36  # linux/prctl.h

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_requested = threading.Event()
_patient = threading.Event()
_ended = threading.Event()  # the block that handles signals is over: the hard end is called off
_last_words: list[str] = []
_Result = TypeVar("_Result")


class StopRequestedError(KeyboardInterrupt):
    """A stop was asked for outside a patient block; no Exception, so nothing swallows it."""


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
    """Take SIGINT and SIGTERM for requests to stop while the block runs. Blocks may nest; the outermost counts."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is _on_signal:
        yield  # in a thread of a notebook or server its owner keeps the signals
        return
    _requested.clear()
    _ended.clear()
    before = {number: signal.signal(number, _on_signal) for number in _SIGNALS}
    try:
        yield
    finally:
        _ended.set()
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def patient() -> Iterator[None]:
    """While the block runs a request sets the flag only; the block's code looks at it and ends by itself."""
    check_stop()
    _patient.set()
    try:
        yield
    finally:
        _patient.clear()


@contextlib.contextmanager
def aside(function: Callable[[], _Result]) -> Iterator[_Result]:
    """Call a function that would take the signal handlers for itself in a thread, where it cannot; yields its result.

    The thread lives as long as the block: what the function starts may be bound to end with the thread that started it.

    Raises:
        StopRequestedError: a stop was asked for before the function returned; what it had started is killed.
    """
    box: list[_Result] = []
    errors: list[BaseException] = []
    returned, over = threading.Event(), threading.Event()

    def call() -> None:
        try:
            box.append(function())
        except BaseException as error:
            errors.append(error)
        returned.set()
        over.wait()

    threading.Thread(target=call, name="aside", daemon=True).start()
    while not returned.wait(0.1):
        if stop_requested():
            kill_children()
            raise StopRequestedError
    if signal.getsignal(signal.SIGINT) is _on_signal:
        for number in _SIGNALS:
            # Also where Python still shows ours: native code may have put its own handler in front.
            signal.signal(number, _on_signal)
    try:
        if errors:
            raise errors[0]
        yield box[0]
    finally:
        over.set()


def say_if_ended_hard(words: str) -> None:
    """What to print where an orderly stop takes too long and everything is ended at once."""
    _last_words[:] = [words]


def _on_signal(number: int, frame: FrameType | None) -> None:
    if not _requested.is_set():
        _requested.set()
        print(f"\n{signal.Signals(number).name}: stopping; what is done is kept", file=sys.stderr, flush=True)
        threading.Thread(target=_end_hard, name="hard-stop", daemon=True).start()
    if not _patient.is_set():
        raise StopRequestedError


def _end_hard() -> None:
    """End every process of ours: the ledger is written with each event, checkpoints are replaced in one step."""
    if _ended.wait(HARD_STOP_SECONDS):
        return
    kill_children()
    for words in _last_words:
        print(words, flush=True)
    os._exit(INTERRUPTED_EXIT_CODE)


def kill_children() -> None:
    """SIGKILL every process that descends from this one, those that lose their parent meanwhile included."""
    import psutil

    adopt_orphans()
    me = psutil.Process()
    deadline = time.monotonic() + 3
    while (children := me.children(recursive=True)) and time.monotonic() < deadline:
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(children, timeout=0.5)


def adopt_orphans() -> None:
    """Have descendants whose parent dies become our children (Linux): else they would escape `kill_children`."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
