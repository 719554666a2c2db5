"""Time to target over a cell's confirm runs. A run that never got there is censored, never left out of a mean.

The median is that of Kaplan and Meier (1958): the first time by which half of all runs are expected to be there. A run
that trained to its end without reaching the target is censored at its length. A diverged one will never reach it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from study.analysis.traces import Trace
from study.records import COMPLETE, DIVERGED, TrialRecord

REACHED = "target/reached"
UNITS = ("steps", "epochs", "seconds")


@dataclass(frozen=True)
class Time:
    """When one run reached the target, or until when it is known not to have."""

    value: float  # inf: a diverged run, which never will
    reached: bool


@dataclass(frozen=True)
class TimeToTarget:
    """Of one cell, by unit."""

    runs: int
    reached: int
    diverged: int
    times: Mapping[str, tuple[Time, ...]]  # unit -> runs, soonest first

    def median(self, unit: str) -> float | None:
        return kaplan_meier_median(self.times[unit])

    def longest(self, unit: str) -> float:
        """Until when every run was watched that had not diverged; 0 where none was."""
        return max((time.value for time in self.times[unit] if math.isfinite(time.value)), default=0.0)


def time_to_target(trials: Sequence[TrialRecord], traces: Mapping[int, Trace], batch_size: int) -> TimeToTarget | None:
    """Over the runs that came to a result and timed a target; None where none did.

    Args:
        trials: confirm runs of one cell.
        traces: theirs.
        batch_size: of the block; a run that searched its own has it among its parameters.
    """
    timed = [trial for trial in trials if trial.state in (COMPLETE, DIVERGED) and REACHED in trial.metrics]
    if not timed:
        return None
    return TimeToTarget(
        runs=len(timed),
        reached=sum(trial.metrics[REACHED] > 0 for trial in timed),
        diverged=sum(trial.state == DIVERGED and not trial.metrics[REACHED] > 0 for trial in timed),
        times={
            unit: tuple(
                sorted(
                    (_time(trial, traces.get(trial.number, Trace()), unit, batch_size) for trial in timed),
                    key=lambda time: (time.value, not time.reached),
                )
            )
            for unit in UNITS
        },
    )


def kaplan_meier_median(times: Sequence[Time]) -> float | None:
    """The first time at which the estimated share of runs still on their way is one half or less; None: never seen."""
    share, at_risk = 1.0, len(times)
    for moment in sorted({time.value for time in times}):
        here = [time for time in times if time.value == moment]
        arrived = sum(time.reached for time in here)
        share *= 1 - arrived / at_risk
        if arrived and share <= 0.5 + 1e-12:
            return moment
        at_risk -= len(here)
    return None


def _time(trial: TrialRecord, trace: Trace, unit: str, batch_size: int) -> Time:
    reached = trial.metrics[REACHED] > 0
    if reached:
        return Time(trial.metrics[f"target/{unit}"], True)
    if trial.state == DIVERGED:
        return Time(math.inf, False)
    if unit == "epochs":
        return Time(float(trial.epochs), False)
    if unit == "steps":
        return Time(trial.metrics.get("steps", math.inf), False)
    return Time(_seconds(trial, trace, int(trial.params.get("batch_size", batch_size))), False)


def _seconds(trial: TrialRecord, trace: Trace, batch_size: int) -> float:
    """Of training alone, up to the end of the run; as `trainables.diagnostics.target` counts them."""
    seconds, steps = 0.0, 0.0
    for report in trace.reports or (trial.metrics,):
        if not report.get("images_per_second"):
            return math.inf
        seconds += (report["steps"] - steps) * batch_size / report["images_per_second"]
        steps = report["steps"]
    return seconds
