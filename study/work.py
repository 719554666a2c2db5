"""What runs next: trials of all cells in turn, confirm runs as soon as their search is done, failures replaced once.

Pure bookkeeping over the ledger; it knows neither Ray nor Optuna.
"""

from __future__ import annotations

from collections.abc import Sequence

from study.jobs import Job
from study.plan import Cell, Plan
from study.records import CONFIRM, FAILED, RUNNING, SEARCH, TrialRecord
from study.search.ledger import Ledger
from study.selection import winner


class WorkQueue:
    """Hands out jobs until every search has its quota and every winner its confirm runs."""

    def __init__(self, plan: Plan, ledger: Ledger) -> None:
        self._plan = plan
        self._ledger = ledger

    def next_job(self) -> Job | None:
        """The next job to start; None where nothing can start before a running job ends, or where all is done."""
        job = self._ledger.take_up()
        if job is not None:
            return job
        return self._next_confirm_run() or self._next_search_trial()

    def finished(self) -> bool:
        """Whether nothing is left to start, now or later."""
        return self._ledger.cut_off == 0 and all(
            self._search_done(cell, repeat) and self._confirm_done(cell, repeat) for cell, repeat in self._searches()
        )

    def _searches(self) -> list[tuple[Cell, int]]:
        return [(cell, repeat) for repeat in range(self._plan.repeats) for cell in self._plan.cells]

    def _next_search_trial(self) -> Job | None:
        # The search that started least goes first: all cells share the machine, and a sampler sees as many of its
        # own results as can be before it is asked again.
        waiting = [
            (len(self._trials(cell, repeat, SEARCH)), order)
            for order, (cell, repeat) in enumerate(self._searches())
            if startable(self._trials(cell, repeat, SEARCH), self._plan.trials_per_search) > 0
        ]
        if not waiting:
            return None
        cell, repeat = self._searches()[min(waiting)[1]]
        return self._ledger.begin_search_trial(cell, repeat)

    def _next_confirm_run(self) -> Job | None:
        for cell, repeat in self._searches():
            if self._search_done(cell, repeat) and self._confirm_open(cell, repeat) > 0:
                best = winner(self._trials(cell, repeat, SEARCH))
                assert best is not None  # _confirm_open is 0 without one
                return self._ledger.begin_confirm_run(cell, repeat, best.params)
        return None

    def _search_done(self, cell: Cell, repeat: int) -> bool:
        trials = self._trials(cell, repeat, SEARCH)
        running = any(trial.state == RUNNING for trial in trials)
        return not running and startable(trials, self._plan.trials_per_search) == 0

    def _confirm_open(self, cell: Cell, repeat: int) -> int:
        if winner(self._trials(cell, repeat, SEARCH)) is None:
            return 0
        return startable(self._trials(cell, repeat, CONFIRM), self._plan.confirm_seeds)

    def _confirm_done(self, cell: Cell, repeat: int) -> bool:
        # A run that is under way may still fail and want its replacement.
        running = any(trial.state == RUNNING for trial in self._trials(cell, repeat, CONFIRM))
        return not running and self._confirm_open(cell, repeat) == 0

    def _trials(self, cell: Cell, repeat: int, phase: str) -> Sequence[TrialRecord]:
        return self._ledger.of_search(cell.name, repeat, phase)


def startable(trials: Sequence[TrialRecord], quota: int) -> int:
    """How many more trials may start: the quota, and one replacement for each of the quota's trials that failed."""
    failed = sum(trial.state == FAILED and trial.index < quota for trial in trials)
    return quota + failed - len(trials)
