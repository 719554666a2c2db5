"""What a study leaves behind, in memory: the facts that analysis and report read, whatever store they came from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from search_spaces import Value

if TYPE_CHECKING:
    from study.plan import Cell, Plan

SEARCH = "search"
CONFIRM = "confirm"  # fresh runs of a search's winner; only these read the test split
RERANK = "rerank"  # fresh runs of a search's best few, to choose the winner among them
AUDIT = "audit"  # stopped trials, run to their full length after all

RUNNING = "running"
COMPLETE = "complete"
PRUNED = "pruned"
DIVERGED = "diverged"
FAILED = "failed"

STOPPED_BY_USER = "stopped by the user"  # the reason of a pruned trial that no rung stopped

# Where a search trial's point comes from.
SAMPLED = "sampled"
LISTED = "listed"  # a point of the grid
TRY_FIRST = "try_first"
WARM_START = "warm_start"
TOP_UP = "top_up"  # beyond the quota, to spend what the block's costliest search did


@dataclass(frozen=True)
class TrialRecord:
    """One training run: a point of a search, or a run that repeats such a point in another phase."""

    number: int  # study-wide, in order of start, from 0
    cell: str  # "lars_warmup/B1077"
    arm: str
    block: str
    repeat: int  # from 0
    phase: str  # SEARCH, RERANK, CONFIRM or AUDIT
    index: int  # within its cell, repeat and phase, from 0
    state: str  # RUNNING, COMPLETE, PRUNED, DIVERGED or FAILED
    params: Mapping[str, Value]
    seed: int
    epochs: int  # really trained
    value: float | None  # the search metric at the last epoch
    curve: Mapping[int, float]  # epoch -> search metric
    metrics: Mapping[str, float]  # the last report
    reason: str | None  # why it diverged or failed
    wall_seconds: float
    traceback: str | None = None  # of a failed trial
    origin: str = SAMPLED
    of: int | None = None  # number of the search trial that a run of another phase repeats

    @property
    def finished(self) -> bool:
        return self.state != RUNNING


@dataclass(frozen=True)
class Ending:
    """How a job ended: its outcome in the study's words and what the loop last reported."""

    state: str  # COMPLETE, PRUNED, DIVERGED or FAILED
    value: float | None  # the search metric at the last epoch; None where there is none
    epochs: int
    metrics: Mapping[str, float]
    reason: str | None
    wall_seconds: float


@dataclass(frozen=True)
class StudyRecord:
    """A whole study: its question, its plan, its trials and what it cost."""

    name: str
    question: str
    spec: Mapping[str, object]
    plan: Plan
    trials: tuple[TrialRecord, ...]
    finished: bool
    wall_seconds: float
    cpu_seconds: float  # over the process tree of every session of the study
    peak_memory_bytes: int  # PSS over the process tree
    versions: Mapping[str, str]
    started_at: str  # ISO 8601 with time zone
    device_seconds: Mapping[str, float] = field(default_factory=dict)  # by cell: wall time of its trials x devices each
    ended_by: str | None = None  # the budget that ended the study before its plan was done, in words
    added: tuple[str, ...] = ()  # what was added after the lock, in words
    stopped_cells: tuple[str, ...] = ()  # cells that the user stopped: they start no further trials

    def of_cell(self, cell: str, phase: str) -> tuple[TrialRecord, ...]:
        return tuple(trial for trial in self.trials if trial.cell == cell and trial.phase == phase)

    def quotas(self, cell: Cell) -> dict[str, int]:
        """Trials of each phase, over all repeats: as planned, and what began beyond the plan.

        Beyond it are audits, further trials up to equal spending, and confirm runs of a winner that trials which were
        added later replaced. Failed trials count nowhere: what replaces one takes its place.
        """
        planned = {SEARCH: cell.trials, RERANK: self.plan.reranked(cell), CONFIRM: self.plan.confirm_seeds, AUDIT: 0}
        begun = Counter((t.phase, t.repeat) for t in self.trials if t.cell == cell.name and t.state != FAILED)
        repeats = range(self.plan.repeats)
        return {phase: sum(max(most, begun[phase, repeat]) for repeat in repeats) for phase, most in planned.items()}

    @property
    def most_trials(self) -> int:
        """Trials of all cells and phases: as planned, and what began beyond the plan."""
        return sum(sum(self.quotas(cell).values()) for cell in self.plan.cells)

    def most_epochs_of(self, cell: Cell) -> int:
        """Epochs of one cell where nothing more stops early: its quotas at full length, and what failed trials took."""
        failed = sum(trial.epochs for trial in self.trials if trial.cell == cell.name and trial.state == FAILED)
        return cell.block.epochs * sum(self.quotas(cell).values()) + failed
