"""What the sweep did, in words: a row a cell, re-ranked searches, and findings of the audits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from study.analysis.engine import CellSpending, Rerank, cell_spending, reranks
from study.plan import Plan
from study.records import AUDIT, CONFIRM, RERANK, SEARCH, StudyRecord
from study.reporting.wording import hours_text, share_text

MOST_RERANKS = 100


@dataclass(frozen=True)
class EngineView:
    """The section's tables and sentences."""

    cells: tuple[CellSpending, ...]
    columns: tuple[tuple[str, tuple[str, ...]], ...]  # head, a cell each
    upsets: tuple[str, ...]
    reranks: tuple[Rerank, ...]
    more_reranks: int  # that are not listed
    sentences: tuple[str, ...]


def engine_view(record: StudyRecord) -> EngineView:
    """Columns that would be empty are left out."""
    cells, plan = cell_spending(record), record.plan
    found = reranks(record)
    columns = [
        ("search", tuple(_of(cell.phases[SEARCH], cell.quotas[SEARCH]) for cell in cells)),
        ("confirm", tuple(_of(cell.phases[CONFIRM], cell.quotas[CONFIRM]) for cell in cells)),
        ("epochs", tuple(f"{_of(cell.epochs, cell.epochs_planned)} {_share(cell)}" for cell in cells)),
        ("device-hours", tuple(_hours(cell) for cell in cells)),
        ("topped up", tuple(str(cell.topped_up) for cell in cells)) if plan.equalize else None,
        ("re-ranked", tuple(_of(cell.phases[RERANK], cell.quotas[RERANK]) for cell in cells))
        if plan.rerank > 1
        else None,
        ("stopped at a rung", tuple(str(cell.stopped_by_rung) for cell in cells))
        if any(cell.cell.block.rungs for cell in cells)
        else None,
        ("audited (would have won)", tuple(_audited(cell) for cell in cells))
        if plan.audit or any(cell.phases[AUDIT] for cell in cells)
        else None,
        ("stopped by the user", tuple(_by_user(cell) for cell in cells))
        if any(cell.stopped_by_user or cell.closed for cell in cells)
        else None,
    ]
    return EngineView(
        cells=cells,
        columns=tuple(column for column in columns if column is not None),
        upsets=tuple(_upsets(cells)),
        reranks=found[:MOST_RERANKS],
        more_reranks=len(found[MOST_RERANKS:]),
        sentences=tuple(_sentences(plan, cells, found)),
    )


def _sentences(plan: Plan, cells: Sequence[CellSpending], found: Sequence[Rerank]) -> list[str]:
    said = []
    if plan.equalize:
        extra = sum(cell.topped_up for cell in cells)
        said.append(
            "Searches were given further trials until each had spent what the costliest of its block and repeat did, "
            f"to within half a training and at most its quota once more: {extra:,} trials in all."
        )
    for origin, count in (
        ("points that the study file wants tried first", sum(cell.tried_first for cell in cells)),
        ("the best points of an earlier study", sum(cell.warm_started for cell in cells)),
    ):
        if count:
            said.append(f"{count:,} search trials took {origin}; they count in the quota.")
    if plan.rerank > 1:
        changed = sum(rerank.changed for rerank in found)
        said.append(
            f"The best {plan.rerank} trials of each search were trained once more with a fresh seed, and the best of "
            f"those runs chose the winner: {changed} of {len(found)} searches changed theirs by it."
        )
    if plan.audit:
        audited = sum(cell.audit.looked_at for cell in cells)
        stopped = sum(cell.audit.stopped for cell in cells)
        upset = sum(len(cell.audit.upsets) for cell in cells)
        said.append(
            f"Of {stopped:,} trials that a rung stopped {audited:,} were drawn at random and run to the end after all "
            f"({100 * plan.audit:g}% asked for); {upset:,} of them beat the winner of their search on the validation "
            "split."
        )
    return said


def _upsets(cells: Sequence[CellSpending]) -> list[str]:
    return [
        f"{cell.cell.name}, repeat {run.repeat}: trial {run.of} was stopped, and run to the end it came to "
        f"{100 * (run.value or 0.0):.1f}% on the validation split, where the search's winner (trial {best.number}) had "
        f"{100 * (best.value or 0.0):.1f}%."
        for cell in cells
        for run, best in cell.audit.upsets
    ]


def _audited(cell: CellSpending) -> str:
    upset = len(cell.audit.upsets)
    return f"{cell.audit.looked_at}" + (f" ({upset})" if upset else "")


def _by_user(cell: CellSpending) -> str:
    return f"{cell.stopped_by_user}" + (", and the cell" if cell.closed else "")


def _hours(cell: CellSpending) -> str:
    planned = "-" if cell.device_hours_planned is None else hours_text(cell.device_hours_planned)
    return f"{hours_text(cell.device_hours)} of {planned}"


def _share(cell: CellSpending) -> str:
    return f"({share_text(cell.epochs, cell.epochs_planned)})"


def _of(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,}"
