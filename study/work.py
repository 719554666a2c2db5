"""What runs next: trials of all cells in turn, then what follows from them, failures replaced once.

When a search has its trials, its best few are re-ranked (where asked for), its winner is confirmed, and some of its
stopped trials are audited. Pure bookkeeping over the ledger: it knows neither Ray nor Optuna, and what it does for one
job does not grow with the number of jobs.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

from study.jobs import Job
from study.plan import Cell, Plan
from study.records import AUDIT, CONFIRM, FAILED, RERANK, RUNNING, SAMPLED, SEARCH, TOP_UP, TrialRecord
from study.search.ledger import Ledger
from study.search.stored import fresh_record
from study.selection import candidates, selected, to_audit

_WAITS = "waits"  # for a trial that is under way, or for another search
_DONE = "done"


class WorkQueue:
    """Hands out jobs until every search has its quota and every winner its confirm runs."""

    def __init__(self, plan: Plan, ledger: Ledger, *, closed: Iterable[str] = ()) -> None:
        self._plan = plan
        self._ledger = ledger
        self._searches = [(cell, repeat) for repeat in range(plan.repeats) for cell in plan.cells]
        self._order = {(cell.name, repeat): order for order, (cell, repeat) in enumerate(self._searches)}
        self._changed = ledger.watch()
        self._changed.update(self._order)
        self._next: dict[int, str] = {}  # a search's next step: a phase, a further trial, or one of the words above
        self._open: set[int] = set(self._order.values())
        self._searched: set[int] = set()  # searches whose own trials are all there and ended
        self._follow: list[int] = []  # heap
        self._waiting: list[tuple[int, int]] = []  # heap: trials started, search
        self._closed: frozenset[str] = frozenset(closed)  # cells

    def next_job(self) -> Job | None:
        """The next job to start; None where nothing can start before a running job ends, or where all is done."""
        job = self._ledger.take_up()
        if job is not None:
            return job
        self._look()
        while self._follow:
            order = heapq.heappop(self._follow)
            if self._next[order] not in (SEARCH, _WAITS, _DONE):
                return self._begin(order)
        # The search that started least goes first: all cells share the machine, and a sampler sees as many of its
        # own results as can be before it is asked again.
        while self._waiting:
            started, order = heapq.heappop(self._waiting)
            if self._next[order] == SEARCH and started == self._started(order):
                return self._begin(order)
        return None

    def finished(self) -> bool:
        """Whether nothing is left to start, now or later."""
        self._look()
        return self._ledger.cut_off == 0 and not self._open

    def keep_closed(self, cells: frozenset[str]) -> frozenset[str]:
        """Start nothing further in these cells, where what runs goes on; returns those that were open till now."""
        new, changed = cells - self._closed, cells ^ self._closed
        self._closed = cells
        self._changed.update(place for place in self._order if place[0] in changed)
        return new

    def _begin(self, order: int) -> Job:
        cell, repeat = self._searches[order]
        step = self._next[order]
        if step in (SEARCH, TOP_UP):
            return self._ledger.begin_search_trial(cell, repeat, top_up=step == TOP_UP)
        return self._ledger.begin_run(cell, repeat, step, self._open_runs(cell, repeat, step)[0])

    def _look(self) -> None:
        """Find the next step of each search in which something has changed."""
        while self._changed:
            order = min(self._order[place] for place in self._changed)
            cell, repeat = self._searches[order]
            self._changed.discard((cell.name, repeat))
            step = self._step(order)
            self._next[order] = step
            self._open.discard(order) if step == _DONE else self._open.add(order)
            if step == SEARCH:
                heapq.heappush(self._waiting, (self._started(order), order))
            elif step not in (_WAITS, _DONE):
                heapq.heappush(self._follow, order)

    def _step(self, order: int) -> str:
        cell, repeat = self._searches[order]
        tally = self._ledger.tally(cell.name, repeat)
        if cell.name in self._closed:
            self._note_searched(order)
            return _WAITS if self._runs(cell, repeat) else _DONE
        if tally.startable(cell.trials) > 0:
            self._searched.discard(order)
            return SEARCH
        if tally.running:
            return _WAITS
        if self._plan.equalize:
            self._note_searched(order)
            group = self._group(cell, repeat)
            if not self._searched.issuperset(group):
                return _WAITS
            if self._is_short(order, group):
                return TOP_UP
        for phase in (RERANK, CONFIRM):
            if self._open_runs(cell, repeat, phase):
                return phase
            if phase == RERANK and self._runs(cell, repeat, phase):
                return _WAITS
        self._note_searched(order)
        if self._plan.audit:
            if not self._searched.issuperset(self._repeats_of(cell)):
                return _WAITS
            if self._open_runs(cell, repeat, AUDIT):
                return AUDIT
        # A run that is under way may still fail and want its replacement.
        return _WAITS if self._runs(cell, repeat) else _DONE

    def _note_searched(self, order: int) -> None:
        """Others wait for this: the block's searches of a repeat for equal spending, a cell's repeats for the audit."""
        if order in self._searched:
            return
        self._searched.add(order)
        cell, repeat = self._searches[order]
        for other in {*self._group(cell, repeat), *self._repeats_of(cell)} - {order}:
            self._changed.add((self._searches[other][0].name, self._searches[other][1]))

    def _group(self, cell: Cell, repeat: int) -> list[int]:
        return [self._order[other.name, repeat] for other in self._plan.cells if other.block is cell.block]

    def _repeats_of(self, cell: Cell) -> list[int]:
        return [self._order[cell.name, repeat] for repeat in range(self._plan.repeats)]

    def _is_short(self, order: int, group: Sequence[int]) -> bool:
        """Whether a search spent less than the costliest of its group by half a training or more.

        Trials that end at once would be added without end: at most the quota comes on top.
        """
        cell, repeat = self._searches[order]
        trials = self._trials(cell, repeat, SEARCH)
        if sum(trial.origin == TOP_UP for trial in trials) >= cell.trials:
            return False
        target = max(
            sum(trial.epochs for trial in self._trials(*self._searches[other], SEARCH) if trial.origin != TOP_UP)
            for other in group
        )
        return target - sum(trial.epochs for trial in trials) >= cell.block.epochs / 2

    def _open_runs(self, cell: Cell, repeat: int, phase: str) -> list[TrialRecord]:
        """The search trials that this phase has still to run, the next first."""
        trials = self._trials(cell, repeat, SEARCH)
        wanted: list[tuple[TrialRecord, int]] = []
        if phase == RERANK:
            best = candidates(trials, self._plan.rerank)
            wanted = [(trial, 1) for trial in best] if len(best) > 1 else []
        elif phase == CONFIRM:
            chosen = selected(trials, self._trials(cell, repeat, RERANK), self._plan.rerank)
            chosen = chosen or _replayed(self._plan, cell)
            wanted = [(chosen, self._plan.confirm_seeds)] if chosen else []
        elif phase == AUDIT:
            repeats = range(self._plan.repeats)
            whole = [trial for other in repeats for trial in self._trials(cell, other, SEARCH)]
            audits = [trial for other in repeats for trial in self._trials(cell, other, AUDIT)]
            drawn = to_audit(self._plan, cell.name, whole, audits)
            wanted = [(trial, 1) for trial in drawn if trial.repeat == repeat]
        return [
            trial for trial, quota in wanted if startable(self._counting(trial.number, cell, repeat, phase), quota) > 0
        ]

    def _counting(self, number: int, cell: Cell, repeat: int, phase: str) -> list[TrialRecord]:
        runs = self._ledger.runs_of(number, cell.name, repeat, phase)
        return [run for run in runs if run.number not in self._ledger.forgiven]

    def _runs(self, cell: Cell, repeat: int, *phases: str) -> bool:
        return any(
            trial.state == RUNNING
            for phase in phases or (SEARCH, RERANK, CONFIRM, AUDIT)
            for trial in self._trials(cell, repeat, phase)
        )

    def _started(self, order: int) -> int:
        cell, repeat = self._searches[order]
        return self._ledger.tally(cell.name, repeat).started

    def _trials(self, cell: Cell, repeat: int, phase: str) -> Sequence[TrialRecord]:
        return self._ledger.of_search(cell.name, repeat, phase)


def _replayed(plan: Plan, cell: Cell) -> TrialRecord | None:
    """A stand-in for the search trial of another study whose confirm run is replayed."""
    if plan.replay is None:
        return None
    return fresh_record(Job(-1, cell, 0, SEARCH, 0, {}, plan.replay.seed), SAMPLED, None)


def startable(runs: Sequence[TrialRecord], quota: int) -> int:
    """How many more may start: the quota, and one replacement for each of the quota's runs that failed."""
    failed = sum(run.state == FAILED for run in runs[:quota])
    return quota + failed - len(runs)
