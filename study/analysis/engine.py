"""What the sweep did, cell by cell: trials of every phase, what was stopped and audited, and what it cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from study.overview import spent_of
from study.plan import Cell
from study.records import (
    COMPLETE,
    DIVERGED,
    FAILED,
    RERANK,
    SEARCH,
    STOPPED_BY_USER,
    TOP_UP,
    TRY_FIRST,
    WARM_START,
    StudyRecord,
    TrialRecord,
)
from study.selection import Audit, audit_of, candidates, selected


@dataclass(frozen=True)
class CellSpending:
    """One cell: what ran and what it cost. Device-hours are wall time times the devices that a trial holds."""

    cell: Cell
    phases: Counter[str]  # trials that came to a result, by phase
    quotas: Mapping[str, int]  # by phase: as planned, and what began beyond the plan
    topped_up: int  # of the search trials: beyond the quota, to spend what the block's costliest search did
    tried_first: int
    warm_started: int
    stopped_by_rung: int
    stopped_by_user: int
    closed: bool  # the user stopped the cell: it starts no further trials
    audit: Audit
    epochs: int
    epochs_planned: int  # where nothing more stops early
    device_hours: float
    device_hours_planned: float | None  # for the planned epochs, at this cell's pace; None before any trial ended


@dataclass(frozen=True)
class Candidate:
    """A search trial that was run once more before one was chosen."""

    trial: TrialRecord
    fresh: float | None  # the search metric of its fresh run; None where that came to nothing
    diverged: bool
    chosen: bool


@dataclass(frozen=True)
class Rerank:
    """One search's candidates, best search value first."""

    cell: str
    repeat: int
    candidates: tuple[Candidate, ...]

    @property
    def changed(self) -> bool:
        """Whether another than the search's own best was chosen."""
        return not self.candidates[0].chosen


def cell_spending(record: StudyRecord) -> tuple[CellSpending, ...]:
    """Every cell, in the plan's order."""
    return tuple(_of_cell(record, cell) for cell in record.plan.cells)


def reranks(record: StudyRecord) -> tuple[Rerank, ...]:
    """Every search whose candidates were run again."""
    return tuple(_reranks(record)) if record.plan.rerank > 1 else ()


def _of_cell(record: StudyRecord, cell: Cell) -> CellSpending:
    trials = [trial for trial in record.trials if trial.cell == cell.name]
    search = [trial for trial in trials if trial.phase == SEARCH]
    origins = Counter(trial.origin for trial in search)
    spent = spent_of(record, cell)
    at_most = spent.device_seconds_planned
    audit = audit_of(trials, record.plan.rerank)
    return CellSpending(
        cell=cell,
        phases=Counter(trial.phase for trial in trials if trial.finished and trial.state != FAILED),
        quotas=record.quotas(cell),
        topped_up=origins[TOP_UP],
        tried_first=origins[TRY_FIRST],
        warm_started=origins[WARM_START],
        stopped_by_rung=audit.stopped,
        stopped_by_user=sum(trial.reason == STOPPED_BY_USER for trial in trials),
        closed=cell.name in record.stopped_cells,
        audit=audit,
        epochs=spent.epochs,
        epochs_planned=spent.epochs_planned,
        device_hours=spent.device_seconds / 3600,
        device_hours_planned=None if at_most is None else at_most / 3600,
    )


def _reranks(record: StudyRecord) -> Iterator[Rerank]:
    plan = record.plan
    for cell in plan.cells:
        for repeat in range(plan.repeats):
            own = [trial for trial in record.trials if (trial.cell, trial.repeat) == (cell.name, repeat)]
            search = [trial for trial in own if trial.phase == SEARCH]
            runs = [trial for trial in own if trial.phase == RERANK]
            if not runs:
                continue
            chosen = selected(search, runs, plan.rerank)
            fresh = {run.of: run for run in runs if run.state in (COMPLETE, DIVERGED)}
            found = tuple(
                Candidate(
                    trial=trial,
                    fresh=fresh[trial.number].value if trial.number in fresh else None,
                    diverged=trial.number in fresh and fresh[trial.number].state == DIVERGED,
                    chosen=chosen is not None and trial.number == chosen.number,
                )
                for trial in candidates(search, plan.rerank)
            )
            if found:
                yield Rerank(cell.name, repeat, found)
