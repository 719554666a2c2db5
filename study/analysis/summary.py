"""A study's record as numbers: per cell counts, spend, test accuracy over repeats, divergence, winners and flags.

Cells are ranked within their block only. Nothing here is a verdict, and no search value enters a score.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from study.analysis.claims import DeclaredClaim, declared_claims
from study.analysis.flags import Flag, cell_flags
from study.analysis.intervals import Interval, Rate, clopper_pearson, t_interval_accuracy
from study.analysis.resolution import Resolution, resolution
from study.analysis.scores import RepeatScore, Winner, further_scores, repeat_scores, winners
from study.plan import Block, Cell, Plan
from study.records import (
    COMPLETE,
    CONFIRM,
    DIVERGED,
    FAILED,
    PRUNED,
    RUNNING,
    SEARCH,
    StudyRecord,
    TrialRecord,
)
from study.selection import Audit, audit_of


@dataclass(frozen=True)
class Counts:
    """Trials of one phase by state."""

    complete: int = 0
    pruned: int = 0
    diverged: int = 0
    failed: int = 0
    running: int = 0

    @property
    def ended(self) -> int:
        """Started and come to an end, whichever."""
        return self.complete + self.pruned + self.diverged + self.failed

    @property
    def started(self) -> int:
        return self.ended + self.running


@dataclass(frozen=True)
class CellSummary:
    """One arm in one block."""

    cell: Cell
    search: Counts
    confirm: Counts
    epochs_spent: int  # of every phase, whatever came of them
    epochs_full: int  # where nothing stops early: as planned, and of what began beyond the plan
    scores: tuple[RepeatScore, ...]
    interval: Interval | None  # None for fewer than two repeats with a score
    divergence: Rate | None  # over all search trials that ended, stopped and failed ones in the denominator
    winners: tuple[Winner, ...]
    flags: tuple[Flag, ...]  # what a reader must know beside the numbers
    audit: Audit  # of stopped trials: an upset caps what may be said of the cell
    further: Mapping[str, float]  # other test accuracies by report key, in points: means over repeats

    @property
    def mean_points(self) -> float | None:
        return statistics.fmean(score.points for score in self.scores) if self.scores else None

    def score_of(self, repeat: int) -> RepeatScore | None:
        return next((score for score in self.scores if score.repeat == repeat), None)


@dataclass(frozen=True)
class BlockSummary:
    """Cells that may be compared, best mean test accuracy first; cells without one stand last."""

    block: Block
    cells: tuple[CellSummary, ...]
    resolution: Resolution


@dataclass(frozen=True)
class StudySummary:
    """All that table and report print."""

    plan: Plan
    blocks: tuple[BlockSummary, ...]
    claims: tuple[DeclaredClaim, ...]
    counts: Counts  # of both phases
    epochs_spent: int
    epochs_full: int
    finished: bool  # nothing is left to run
    notes: tuple[str, ...] = ()  # what a reader must know of the study as a whole

    @property
    def single_repeat(self) -> bool:
        """With one search per cell, nothing can be said but about the configurations found."""
        return self.plan.repeats == 1

    @property
    def cells(self) -> tuple[CellSummary, ...]:
        return tuple(cell for block in self.blocks for cell in block.cells)


def summarize(record: StudyRecord) -> StudySummary:
    """What the trials say so far; a study that is unfinished, or has no trial at all, is summarised all the same."""
    finished = record.finished and all(trial.finished for trial in record.trials)
    cells = [_summarize_cell(record, cell, finished) for cell in record.plan.cells]
    return StudySummary(
        plan=record.plan,
        blocks=tuple(_summarize_block(block, cells) for block in record.plan.blocks),
        claims=declared_claims(record.spec, record.plan, {cell.cell.name: cell.scores for cell in cells}),
        counts=count_states(record.trials),
        epochs_spent=sum(trial.epochs for trial in record.trials),
        epochs_full=sum(cell.epochs_full for cell in cells),
        finished=finished,
        notes=_notes(record),
    )


def _notes(record: StudyRecord) -> tuple[str, ...]:
    notes = []
    if record.ended_by:
        notes.append(f"The study ended with what it had when its budget was spent ({record.ended_by}).")
    if record.added:
        notes.append(f"Added after the lock: {'; '.join(record.added)}.")
    if record.stopped_cells:
        cells = ", ".join(record.stopped_cells)
        notes.append(f"The user stopped {cells}: no further trials start there, and nothing is concluded from it.")
    return tuple(notes)


def count_states(trials: Sequence[TrialRecord]) -> Counts:
    states = Counter(trial.state for trial in trials)
    return Counts(states[COMPLETE], states[PRUNED], states[DIVERGED], states[FAILED], states[RUNNING])


def _summarize_cell(record: StudyRecord, cell: Cell, finished: bool) -> CellSummary:
    plan = record.plan
    search, confirm = record.of_cell(cell.name, SEARCH), record.of_cell(cell.name, CONFIRM)
    every = [trial for trial in record.trials if trial.cell == cell.name]
    audit = audit_of(every, plan.rerank)
    stopped = cell.name in record.stopped_cells
    counts, scores = count_states(search), repeat_scores(record, cell)
    interval = t_interval_accuracy([score.correct for score in scores], [score.items for score in scores])
    found = winners(record, cell)
    return CellSummary(
        cell=cell,
        search=counts,
        confirm=count_states(confirm),
        epochs_spent=sum(trial.epochs for trial in every),
        epochs_full=record.most_epochs_of(cell),
        scores=scores,
        interval=interval,
        divergence=clopper_pearson(counts.diverged, counts.ended),
        winners=found,
        flags=cell_flags(plan, search, confirm, scores, interval, found, finished, cell.trials, audit, stopped),
        audit=audit,
        further=further_scores(record, cell),
    )


def _summarize_block(block: Block, cells: Sequence[CellSummary]) -> BlockSummary:
    own = [cell for cell in cells if cell.cell.block.label == block.label]
    ranked = sorted(own, key=lambda cell: -cell.mean_points if cell.mean_points is not None else 1.0)
    return BlockSummary(
        block=block,
        cells=tuple(ranked),
        resolution=resolution(block.sizes.test, {cell.cell.name: cell.scores for cell in own}),
    )
