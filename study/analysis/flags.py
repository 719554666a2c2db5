"""What a reader must know beside a cell's numbers: short quotas, winners at the edge, diverged confirm runs, skew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from study.analysis.intervals import Interval
from study.analysis.scores import RepeatScore, Winner
from study.plan import Plan
from study.records import COMPLETE, DIVERGED, FAILED, PRUNED, STOPPED_BY_USER, TrialRecord
from study.selection import Audit

UNFINISHED = "not finished"
SHORT = "short of its quota"
STOPPED = "stopped by the user, so nothing is concluded from it"
CONFIRM_DIVERGED = "confirm runs diverged, counted with chance accuracy"
AUDIT = "a stopped trial, run to the end, beat its search's winner"
EDGE = "winner in the outer 10% of a range"
TIED = "all repeats scored the same, so the interval has no width (the test split's resolution, not certainty)"
SKEWED = "repeats are skewed, so the interval is not about the plain mean"
KINDS = (UNFINISHED, SHORT, STOPPED, CONFIRM_DIVERGED, AUDIT, EDGE, TIED, SKEWED)  # in the order of printing

_SETTLED = (COMPLETE, PRUNED, DIVERGED)


@dataclass(frozen=True)
class Flag:
    """One thing to know about a cell: `what` is one of this module's kinds, `detail` this cell's part of it."""

    what: str
    detail: str

    def __str__(self) -> str:
        return f"{self.what}: {self.detail}"


def cell_flags(
    plan: Plan,
    search: Sequence[TrialRecord],
    confirm: Sequence[TrialRecord],
    scores: Sequence[RepeatScore],
    interval: Interval | None,
    found: Sequence[Winner],
    finished: bool,
    quota: int,
    audit: Audit,
    stopped: bool = False,
) -> tuple[Flag, ...]:
    """One flag of a kind at most; none for a cell that went as planned."""
    return (
        *_short(plan, search, confirm, finished, quota),
        *_stopped(search, stopped),
        *_confirm_diverged(scores),
        *_upsets(audit),
        *_at_edges(plan, found),
        *_odd_interval(interval),
    )


def _short(
    plan: Plan, search: Sequence[TrialRecord], confirm: Sequence[TrialRecord], finished: bool, searched: int
) -> Iterator[Flag]:
    """A crashed trial is no result: it does not fill the quota, its replacement does."""
    missing = []
    for trials, quota, what in (
        (search, searched, "search trials"),
        (confirm, plan.confirm_seeds, "confirm runs"),
    ):
        settled = Counter(trial.repeat for trial in trials if trial.state in _SETTLED)
        have = sum(min(settled[repeat], quota) for repeat in range(plan.repeats))
        if have < quota * plan.repeats:
            missing.append(f"{have} of {quota * plan.repeats} {what}")
    if missing:
        failed = sum(trial.state == FAILED for trial in (*search, *confirm))
        crashed = f" ({failed} failed)" if failed else ""
        yield Flag(SHORT if finished else UNFINISHED, " and ".join(missing) + crashed)


def _stopped(search: Sequence[TrialRecord], stopped: bool) -> Iterator[Flag]:
    """What a user ended was ended for reasons that no rule of the study knows."""
    trials = sum(trial.reason == STOPPED_BY_USER for trial in search)
    parts = ["it starts no further trials"] if stopped else []
    parts += [f"{trials} of its search trials"] if trials else []
    if parts:
        yield Flag(STOPPED, ", ".join(parts))


def _confirm_diverged(scores: Sequence[RepeatScore]) -> Iterator[Flag]:
    diverged = sum(score.diverged for score in scores)
    if diverged:
        yield Flag(CONFIRM_DIVERGED, f"{diverged} of {sum(score.runs for score in scores)}")


def _upsets(audit: Audit) -> Iterator[Flag]:
    if audit.upsets:
        yield Flag(AUDIT, f"{len(audit.upsets)} of {audit.looked_at} looked at ({audit.stopped} were stopped)")


def _at_edges(plan: Plan, found: Sequence[Winner]) -> Iterator[Flag]:
    places: dict[str, list[int]] = {}
    for winner in found:
        for knob, where in winner.edges.items():
            places.setdefault(f"{knob} {where}", []).append(winner.repeat)
    if places:
        yield Flag(EDGE, ", ".join(f"{edge}{_repeats(plan, repeats)}" for edge, repeats in places.items()))


def _repeats(plan: Plan, repeats: Sequence[int]) -> str:
    if plan.repeats == 1:
        return ""
    return f" (repeat{'s' if len(repeats) > 1 else ''} {', '.join(map(str, repeats))})"


def _odd_interval(interval: Interval | None) -> Iterator[Flag]:
    if interval is None:
        return
    if interval.has_no_width:
        yield Flag(TIED, f"{interval.mean:.1f}")
    elif not interval.low <= interval.mean <= interval.high or abs(interval.mean - interval.centre) >= 1:
        yield Flag(SKEWED, f"plain mean {interval.mean:.1f}, mean on the logit scale {interval.centre:.1f}")
