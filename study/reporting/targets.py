"""The report's sections on time to target and on what diagnostics cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from study.analysis.scores import confirming
from study.analysis.summary import StudySummary
from study.analysis.targets import UNITS, TimeToTarget, time_to_target
from study.analysis.traces import Traces
from study.plan import Cell
from study.records import StudyRecord
from study.reporting import course_figures, course_frames
from study.reporting.measured import number_text, runs_of
from study.reporting.svg import to_svg


@dataclass(frozen=True)
class TargetRow:
    """One cell: how many runs reached the target, and the medians in words."""

    cell: str
    arm: str
    reached: str
    medians: tuple[str, ...]  # by unit, as in `targets.UNITS`
    each: str  # epochs, run by run


@dataclass(frozen=True)
class BlockTargets:
    label: str
    rows: tuple[TargetRow, ...]
    figure: Markup


@dataclass(frozen=True)
class CostRow:
    """What diagnostics cost a cell's confirm runs."""

    cell: str
    arm: str
    seconds: float
    of_seconds: float  # all epochs, diagnostics included

    @property
    def share(self) -> float:
        return self.seconds / self.of_seconds


def target_sections(
    record: StudyRecord, summary: StudySummary, traces: Traces, colours: Mapping[str, str]
) -> list[BlockTargets]:
    """Time to target, block by block; empty where the study file sets none."""
    sections: list[BlockTargets] = []
    settings = record.spec.get("diagnostics")
    if not isinstance(settings, Mapping) or settings.get("target_accuracy") is None:
        return sections
    for block in summary.blocks:
        found: dict[str, TimeToTarget] = {}
        rows = []
        for cell in block.cells:
            own = time_to_target(confirming(record, cell.cell), traces, block.block.batch_size)
            if own is not None:
                found[cell.cell.arm] = own
                rows.append(_target_row(cell.cell, own))
        if found:
            label = block.block.label
            figure = course_figures.target_figure(course_frames.target_frame(found), colours, block.block.epochs)
            sections.append(
                BlockTargets(label, tuple(rows), to_svg(figure, f"Epochs to the target in {label}, by run"))
            )
    return sections


def cost_rows(record: StudyRecord, summary: StudySummary, traces: Traces) -> list[CostRow]:
    """What diagnostics took of the epochs of each cell's confirm runs; cells without any are left out."""
    rows = []
    for cell in summary.cells:
        runs = runs_of(record, traces, cell.cell)
        seconds = sum(run.total("diagnostics_seconds") for run in runs)
        whole = sum(run.total("epoch_seconds") for run in runs)
        if seconds > 0 and whole > 0:
            rows.append(CostRow(cell.cell.name, cell.cell.arm, seconds, whole))
    return rows


def _target_row(cell: Cell, found: TimeToTarget) -> TargetRow:
    reached = f"{found.reached} of {found.runs}"
    if found.diverged:
        reached += f" ({found.diverged} diverged)"
    return TargetRow(
        cell=cell.name,
        arm=cell.arm,
        reached=reached,
        medians=tuple(_median_text(found, unit) for unit in UNITS),
        each=", ".join(
            f"{time.value:g}" if time.reached else ("diverged" if math.isinf(time.value) else f"> {time.value:g}")
            for time in found.times["epochs"]
        ),
    )


def _median_text(found: TimeToTarget, unit: str) -> str:
    median = found.median(unit)
    if median is not None:
        return number_text(median)
    longest = found.longest(unit)
    return f"> {number_text(longest)}" if longest else "not reached"
