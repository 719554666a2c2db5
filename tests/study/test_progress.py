"""The live line, against a clock that the test turns."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest

from study.jobs import Job
from study.plan import Plan, make_plan
from study.progress import LOG_SECONDS, TERMINAL_SECONDS, Progress, duration
from study.records import COMPLETE, CONFIRM, DIVERGED, FAILED, PRUNED, SEARCH, Ending
from study.spec import Spec

MakeEnding = Callable[..., Ending]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def plan(make_spec: Callable[..., Spec]) -> Plan:
    """Four searches of three trials, and four confirm runs."""
    return make_plan(make_spec())


def _job(plan: Plan, index: int, phase: str = SEARCH) -> Job:
    return Job(index, plan.cells[0], 0, phase, index, {}, 1)


def test_the_line_counts_every_outcome(plan: Plan, clock: Clock, make_ending: MakeEnding) -> None:
    progress = Progress(plan, out=io.StringIO(), clock=clock)
    assert progress.line() == "0:00 · 0/16 trials · 0 epochs"
    for index, state in enumerate((COMPLETE, PRUNED, DIVERGED, FAILED)):
        job = _job(plan, index)
        progress.started(job.key)
        progress.epochs(5)
        clock.now += 2
        progress.ended(job, make_ending(state, wall_seconds=2.0))
    progress.started("another")
    words = "0:08 · 4/17 trials · 1 running · 1 stopped early · 1 diverged · 1 failed · 20 epochs · about "
    assert progress.line().startswith(words)
    assert progress.complete == 1


def test_a_log_gets_a_line_now_and_then(plan: Plan, clock: Clock) -> None:
    out = io.StringIO()
    progress = Progress(plan, out=out, clock=clock)
    for _ in range(10):
        clock.now += LOG_SECONDS / 5
        progress.tick()
    assert out.getvalue() == "  0:15 · 0/16 trials · 0 epochs\n  0:30 · 0/16 trials · 0 epochs\n"
    progress.note("lars/B64/r0/t0 failed: RuntimeError")
    progress.close()
    tail = out.getvalue().splitlines()[2:]
    assert tail == ["  lars/B64/r0/t0 failed: RuntimeError", "  0:30 · 0/16 trials · 0 epochs"]
    assert "\r" not in out.getvalue()


def _screen(text: str) -> list[str]:
    """What a terminal shows: a carriage return begins the line anew, over what stands there."""
    lines = []
    for line in text.split("\n"):
        shown: list[str] = []
        for part in line.split("\r"):
            shown[: len(part)] = part
        lines.append("".join(shown).rstrip())
    return lines


def test_a_terminal_gets_one_line_that_rewrites_itself(
    plan: Plan, clock: Clock, make_ending: MakeEnding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    out = Terminal()
    progress = Progress(plan, out=out, clock=clock)
    progress.started("a")
    for _ in range(8):
        clock.now += TERMINAL_SECONDS / 2
        progress.tick()
    assert out.getvalue().count("\r") == 4
    assert "\n" not in out.getvalue()
    assert _screen(out.getvalue()) == ["  0:01 · 0/16 trials · 1 running · 0 epochs"]
    progress.note("a line that stays")
    progress.ended(_job(plan, 0), make_ending(wall_seconds=1.0))
    assert progress.line().startswith("0:01 · 1/16 trials · 1 running · 0 epochs · about")
    progress.close()
    screen = _screen(out.getvalue())
    assert screen[0] == "  a line that stays"
    assert screen[1] == "  0:01 · 1/16 trials · 1 running · 0 epochs"  # at the end without an estimate
    assert screen[2] == ""


def test_a_shorter_line_leaves_nothing_of_a_longer_one(
    plan: Plan, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    out = Terminal()
    progress = Progress(plan, out=out, clock=clock)
    for key in ("a", "b"):
        progress.started(key)
    clock.now += 1
    progress.tick()
    progress._running.clear()
    clock.now += 1
    progress.tick()
    assert _screen(out.getvalue()) == ["  0:02 · 0/16 trials · 0 epochs"]


def test_a_narrow_terminal_is_not_overrun(plan: Plan, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    out = Terminal()
    progress = Progress(plan, out=out, clock=clock)
    clock.now += 1
    progress.tick()
    assert _screen(out.getvalue()) == ["  0:01 · 0/16 trials"[:19]]


def test_the_estimate_knows_both_phases_and_what_runs_at_once(
    plan: Plan, clock: Clock, make_ending: MakeEnding
) -> None:
    progress = Progress(plan, out=io.StringIO(), clock=clock)
    assert progress.seconds_left() is None
    for index in range(6):  # two at a time, 4 s each
        progress.ended(_job(plan, index), make_ending(wall_seconds=4.0))
    clock.now += 12
    assert progress.seconds_left() == pytest.approx((6 * 4 + 4 * 4) / 2)
    progress.ended(_job(plan, 0, CONFIRM), make_ending(wall_seconds=10.0))
    clock.now += 5
    assert progress.seconds_left() == pytest.approx((6 * 4 + 3 * 10) / 2)


def test_the_estimate_ends_with_the_study(plan: Plan, clock: Clock, make_ending: MakeEnding) -> None:
    progress = Progress(plan, settled=15, out=io.StringIO(), clock=clock)
    assert progress.line().startswith("0:00 · 15/16 trials")
    progress.ended(_job(plan, 0, CONFIRM), make_ending())
    clock.now += 5
    assert progress.seconds_left() is None
    assert progress.line() == "0:05 · 16/16 trials · 0 epochs"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0:00"), (7.4, "0:07"), (59.6, "1:00"), (754, "12:34"), (3599.7, "1:00:00"), (11045, "3:04:05")],
)
def test_duration(seconds: float, words: str) -> None:
    assert duration(seconds) == words
