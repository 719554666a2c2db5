"""The report's tables of a swept grid: validation values, shaded, with the confirm runs of what was selected."""

from __future__ import annotations

from dataclasses import dataclass

from search_spaces import Value
from study.analysis.ablation import ARM, BATCH_SIZE, GridPoint, GridTable, grid_tables
from study.records import StudyRecord

LEAST_SPAN = 5.0  # points from the lightest shade to the darkest: a smaller spread is not worth the contrast
DARKEST = 42  # percent of colour in the shade of the highest value; ink stays readable on it in either mode
NAMES = {BATCH_SIZE: "batch size", ARM: ""}


@dataclass(frozen=True)
class GridCell:
    """One point in words."""

    mean: str
    interval: str
    notes: tuple[str, ...]
    selected: str  # how often and what its confirm runs scored; empty where no search chose it
    shade: int  # percent


@dataclass(frozen=True)
class GridView:
    """One table of the page."""

    title: str
    arms: tuple[str, ...]
    row: str
    column: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[GridCell | None, ...]], ...]


def grid_views(record: StudyRecord) -> list[GridView]:
    """Every table; shades end at the highest mean of a table and begin at its lowest without divergence."""
    return [_view(table) for table in grid_tables(record)]


def _view(table: GridTable) -> GridView:
    points = [point for point in table.points.values() if point.mean is not None]
    means = [point.mean or 0.0 for point in points if not point.diverged] or [point.mean or 0.0 for point in points]
    high = max(means, default=0.0)
    low = min(min(means, default=0.0), high - LEAST_SPAN)
    parts = [", ".join(table.arms) if table.column != ARM and table.row != ARM else "", table.setting]
    parts += [f"{NAMES.get(name, name)} {_value_text(value)}" for name, value in table.fixed.items()]
    return GridView(
        title=", ".join(part for part in parts if part),
        arms=table.arms if table.column != ARM and table.row != ARM else (),
        row=NAMES.get(table.row, table.row),
        column=NAMES.get(table.column, table.column),
        columns=tuple(map(_value_text, table.columns)),
        rows=tuple(
            (
                _value_text(row),
                tuple(_cell(table.points.get((row, column)), low, high) for column in table.columns),
            )
            for row in table.rows
        ),
    )


def _cell(point: GridPoint | None, low: float, high: float) -> GridCell | None:
    if point is None:
        return None
    states = ((point.diverged, "diverged"), (point.failed, "failed"), (point.stopped, "stopped"))
    notes = [f"{number} {what}" for number, what in states if number]
    if point.mean is None:
        return GridCell("-", "", tuple(notes), "", 0)
    place = min(max((point.mean - low) / (high - low), 0.0), 1.0)
    interval = f"[{point.interval.low:.1f}, {point.interval.high:.1f}]" if point.interval else ""
    return GridCell(f"{point.mean:.1f}", interval, tuple(notes), _selected_text(point), round(DARKEST * place))


def _selected_text(point: GridPoint) -> str:
    if not point.selected:
        return ""
    test = f"test {point.mean_confirmed:.1f}" if point.mean_confirmed is not None else "no confirm run"
    return f"selected {point.selected}x: {test}"


def _value_text(value: Value) -> str:
    if isinstance(value, str):
        return value or "-"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
