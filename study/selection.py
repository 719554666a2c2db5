"""Which trial of a search is its winner: one rule, for what is confirmed and for what is reported."""

from __future__ import annotations

from collections.abc import Sequence

from study.records import COMPLETE, DIVERGED, PRUNED, TrialRecord


def winner(trials: Sequence[TrialRecord]) -> TrialRecord | None:
    """The trial with the best search metric at the last epoch, of those that trained to the end.

    Where none did, the stopped trial that came furthest stands in; where every trial diverged, the first of them stands
    for the search: that its arm diverges is the result.
    """
    complete = [trial for trial in trials if trial.state == COMPLETE and trial.value is not None]
    if complete:
        return max(complete, key=lambda trial: (trial.value or 0.0, -trial.index))
    pruned = [trial for trial in trials if trial.state == PRUNED and trial.value is not None]
    if pruned:
        return max(pruned, key=lambda trial: (trial.epochs, trial.value or 0.0, -trial.index))
    diverged = [trial for trial in trials if trial.state == DIVERGED]
    return min(diverged, key=lambda trial: trial.index) if diverged else None
