"""Which trial of a search is its winner, and who may stand against it: one rule for what runs and what is reported."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from study.plan import Plan, derive_seed
from study.records import AUDIT, COMPLETE, DIVERGED, PRUNED, RERANK, SEARCH, STOPPED_BY_USER, TrialRecord


def winner(trials: Sequence[TrialRecord]) -> TrialRecord | None:
    """The trial with the best search metric at the last epoch, of those that trained to the end.

    Where none did, the stopped trial that came furthest stands in; where every trial diverged, the first of them stands
    for the search: that its arm diverges is the result.
    """
    complete = candidates(trials, 1)
    if complete:
        return complete[0]
    pruned = [trial for trial in trials if trial.state == PRUNED and trial.value is not None]
    if pruned:
        return max(pruned, key=lambda trial: (trial.epochs, trial.value or 0.0, -trial.index))
    diverged = [trial for trial in trials if trial.state == DIVERGED]
    return min(diverged, key=lambda trial: trial.index) if diverged else None


def candidates(trials: Sequence[TrialRecord], most: int) -> list[TrialRecord]:
    """The best trials of a search that trained to the end, best first."""
    complete = [trial for trial in trials if trial.state == COMPLETE and trial.value is not None]
    return sorted(complete, key=lambda trial: (-(trial.value or 0.0), trial.index))[:most]


def selected(trials: Sequence[TrialRecord], reruns: Sequence[TrialRecord], rerank: int) -> TrialRecord | None:
    """The search trial that is confirmed: the search's winner or, re-ranked, the best of its candidates' fresh runs.

    A candidate whose fresh run diverged stands behind those that did not; one without any result is out of the race
    while another has one. Equals go by their search value.

    Args:
        trials: one search's own.
        reruns: its runs with a fresh seed; of each candidate the last that came to a result counts.
        rerank: how many candidates there are; below 2 the search alone decides.
    """
    if rerank < 2:
        return winner(trials)
    fresh = {run.of: run for run in reruns if run.state in (COMPLETE, DIVERGED) and run.value is not None}
    stood = [trial for trial in candidates(trials, rerank) if trial.number in fresh]
    if not stood:
        return winner(trials)
    return max(
        stood,
        key=lambda t: (fresh[t.number].state == COMPLETE, fresh[t.number].value or 0.0, t.value or 0.0, -t.index),
    )


def of_newest_winner(confirms: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The confirm runs that count for one repeat: trials that were added later may have brought another winner."""
    if not confirms:
        return []
    newest = max(confirms, key=lambda run: run.number).of
    return [run for run in confirms if run.of == newest]


def to_audit(plan: Plan, cell: str, trials: Sequence[TrialRecord], audits: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The stopped trials of a cell, over all repeats, that are run to the end: a random draw that the seed fixes.

    Args:
        plan: how large a part of them, and the study's seed.
        cell: its name.
        trials: the cell's search trials.
        audits: audit runs that there are; what they look at is drawn already.
    """
    stopped = [trial for trial in trials if _stopped_by_rung(trial)]
    count = math.ceil(plan.audit * len(stopped) - 1e-9)
    drawn = {run.of for run in audits}
    order = sorted(
        stopped, key=lambda t: (t.number not in drawn, derive_seed(plan.seed, "audit", cell, t.repeat, t.index))
    )
    return order[:count]


@dataclass(frozen=True)
class Audit:
    """What a cell's audit found."""

    stopped: int  # search trials that a rung stopped
    looked_at: int  # of them, run to the end
    upsets: tuple[tuple[TrialRecord, TrialRecord], ...]  # audit runs that beat their search's winner, and that winner


def audit_of(cell: Sequence[TrialRecord], rerank: int) -> Audit:
    """Whether early stopping cost the cell a winner, as far as its audit runs can tell.

    Args:
        cell: all trials of one cell, of every phase.
        rerank: as in the plan.
    """
    upsets = []
    ended = [run for run in cell if run.phase == AUDIT and run.state in (COMPLETE, DIVERGED)]
    for run in ended:
        own = [trial for trial in cell if trial.repeat == run.repeat]
        searched = [trial for trial in own if trial.phase == SEARCH]
        best = selected(searched, [trial for trial in own if trial.phase == RERANK], rerank)
        if best is not None and run.state == COMPLETE and (run.value or 0.0) > (best.value or 0.0):
            upsets.append((run, best))
    return Audit(sum(map(_stopped_by_rung, cell)), len({run.of for run in ended}), tuple(upsets))


def _stopped_by_rung(trial: TrialRecord) -> bool:
    return trial.phase == SEARCH and trial.state == PRUNED and trial.reason != STOPPED_BY_USER
