"""The figures of each block, as SVG with their headings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup

from search_spaces import Choice
from study.analysis.summary import BlockSummary, CellSummary, StudySummary
from study.records import StudyRecord
from study.reporting import figures, frames, wording
from study.reporting.canvas import Limits
from study.reporting.svg import to_svg

KNOB = "base_lr"  # the one that the parameter view shows


@dataclass(frozen=True)
class Panel:
    """A small figure of one cell."""

    arm: str
    svg: Markup | None
    note: str  # why there is no figure


@dataclass(frozen=True)
class BlockView:
    """One block's part of the page."""

    summary: BlockSummary
    accuracy: Markup | None  # None where no cell has a score
    flags: list[tuple[str, list[tuple[str, str]]]]  # of `wording.grouped_flags`
    curves: tuple[Panel, ...]
    knobs: tuple[Panel, ...]
    resolution: str


def block_views(record: StudyRecord, summary: StudySummary, colours: Mapping[str, str]) -> list[BlockView]:
    """Every block's figures; `colours` holds the arms'. Cells stand in the order of ranking."""
    return [_view(record, summary, block, colours) for block in summary.blocks]


def _view(record: StudyRecord, summary: StudySummary, block: BlockSummary, colours: Mapping[str, str]) -> BlockView:
    label = block.block.label
    curves = frames.curve_frame(record, block.block)
    y_limits = figures.metric_limits(curves["metric"])
    chance = 100 / block.block.classes if block.block.classes else None
    accuracy = None
    if any(cell.scores for cell in block.cells):
        figure = figures.accuracy_figure(frames.accuracy_frame(block), colours, chance)
        accuracy = to_svg(figure, f"Test accuracy of the cells of {label}: repeats, means and intervals")
    return BlockView(
        summary=block,
        accuracy=accuracy,
        flags=wording.grouped_flags(block),
        curves=tuple(
            _curves(cell, curves[curves["cell"] == cell.cell.name], colours, y_limits) for cell in block.cells
        ),
        knobs=tuple(_knob(record, cell, colours, y_limits) for cell in block.cells),
        resolution=wording.resolution_text(block, summary),
    )


def _curves(cell: CellSummary, frame: pd.DataFrame, colours: Mapping[str, str], y_limits: Limits) -> Panel:
    arm, block = cell.cell.arm, cell.cell.block
    if frame.empty:
        return Panel(arm, None, "No epoch has been reported yet.")
    figure = figures.curves_figure(frame, colours[arm], block.epochs, block.rungs, y_limits)
    return Panel(arm, to_svg(figure, f"Learning curves of {cell.cell.name}"), "")


def _knob(record: StudyRecord, cell: CellSummary, colours: Mapping[str, str], y_limits: Limits) -> Panel:
    arm = cell.cell.arm
    dimension = cell.cell.dimensions.get(KNOB)
    if dimension is None or isinstance(dimension, Choice):
        return Panel(arm, None, f"{KNOB} is not searched over a range here.")
    frame = frames.knob_frame(record, cell.cell, KNOB)
    if frame.empty:
        return Panel(arm, None, "No search trial has ended yet.")
    selected = [winner.number for winner in cell.winners if winner.number is not None]
    figure = figures.knob_figure(frame, KNOB, dimension, selected, colours[arm], y_limits)
    return Panel(arm, to_svg(figure, f"{KNOB} against the search value of {cell.cell.name}"), "")
