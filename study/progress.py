"""The live line of a running study: one line that rewrites itself on a terminal, a line now and then in a log file."""

from __future__ import annotations

import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import TextIO

from study.jobs import Job
from study.plan import Plan
from study.records import COMPLETE, DIVERGED, FAILED, PRUNED, SEARCH, Ending

TERMINAL_SECONDS = 0.25
LOG_SECONDS = 15.0
_AFTER = "after"  # runs of all phases that follow a search: they train to the end


class Progress:
    """Counts what has ended and estimates the rest from it."""

    def __init__(
        self,
        plan: Plan,
        *,
        settled: int = 0,
        out: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plan = plan
        self._out = out or sys.stdout
        self._live = self._out.isatty()
        self._clock = clock
        self._begun = clock()
        self._shown = self._begun
        self._already = settled  # in earlier sessions
        self._states: Counter[str] = Counter()
        self._running: set[str] = set()
        self._epochs = 0
        self._seconds = {SEARCH: 0.0, _AFTER: 0.0}
        self._counts: Counter[str] = Counter()
        self._width = 0

    def started(self, key: str) -> None:
        self._running.add(key)

    def epochs(self, count: int) -> None:
        self._epochs += count

    def ended(self, job: Job, ending: Ending) -> None:
        self._running.discard(job.key)
        self._states[ending.state] += 1
        stage = SEARCH if job.phase == SEARCH else _AFTER
        self._counts[stage] += 1
        self._seconds[stage] += ending.wall_seconds

    def note(self, text: str) -> None:
        """A line that stays."""
        self._clear()
        print(f"  {text}", file=self._out, flush=True)

    def tick(self) -> None:
        """Show the line where it is due."""
        now = self._clock()
        if now - self._shown < (TERMINAL_SECONDS if self._live else LOG_SECONDS):
            return
        self._shown = now
        self._show()

    def close(self) -> None:
        """Leave the last state as a line of its own, without an estimate: what is left may never run."""
        self._show(last=True)
        if self._live:
            print(file=self._out, flush=True)
        self._width = 0

    def line(self, *, last: bool = False) -> str:
        """The line's text; the last one has no estimate."""
        done = self._already + sum(self._states.values())
        most = max(self._plan.trials + self._states[FAILED], done)  # a failed trial is replaced, audits come on top
        words = [f"{duration(self._clock() - self._begun)}", f"{done}/{most} trials"]
        if self._running:
            words.append(f"{len(self._running)} running")
        for state, word in ((PRUNED, "stopped early"), (DIVERGED, "diverged"), (FAILED, "failed")):
            if self._states[state]:
                words.append(f"{self._states[state]} {word}")
        words.append(f"{self._epochs} epochs")
        left = None if last else self.seconds_left()
        if left is not None:
            words.append(f"about {duration(left)} left")
        return " · ".join(words)

    def seconds_left(self) -> float | None:
        """An estimate from this session's pace; None before anything has ended, and at the end."""
        ended = sum(self._states.values())
        left = self._plan.trials - self._already - ended
        elapsed = self._clock() - self._begun
        if ended == 0 or left <= 0 or elapsed <= 0:
            return None
        mean = {
            phase: self._seconds[phase] / count
            for phase, count in self._counts.items()
            if count and self._seconds[phase]
        }
        if SEARCH not in mean:
            return left * elapsed / ended
        after_left = max(self._plan.confirm_runs + self._plan.rerank_runs - self._counts[_AFTER], 0)
        search_left = max(left - after_left, 0)
        work_left = search_left * mean[SEARCH] + min(after_left, left) * mean.get(_AFTER, mean[SEARCH])
        at_once = sum(self._seconds.values()) / elapsed
        return work_left / max(at_once, 0.1)

    @property
    def complete(self) -> int:
        return self._states[COMPLETE]

    def _show(self, *, last: bool = False) -> None:
        text = self.line(last=last)
        if not self._live:
            print(f"  {text}", file=self._out, flush=True)
            return
        columns = shutil.get_terminal_size().columns
        text = text[: columns - 3]
        print("\r  " + text.ljust(self._width), end="", file=self._out, flush=True)
        self._width = len(text)

    def _clear(self) -> None:
        if self._live and self._width:
            print("\r" + " " * (self._width + 2) + "\r", end="", file=self._out, flush=True)


def duration(seconds: float) -> str:
    """Seconds as `0:07`, `12:34` or `3:04:05`."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
