"""A swept grid as tables: the search metric of every point over repeats, with the confirm runs of selected points.

The search metric is taken on the validation split. Where a point was not chosen for its value, its mean over repeats is
an honest description of that point on that split; the best of a table is still the best of many.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from search_spaces import Value
from study.analysis.intervals import Interval, t_interval_accuracy
from study.analysis.scores import repeat_scores, winners
from study.plan import Block, Cell
from study.records import COMPLETE, DIVERGED, FAILED, PRUNED, SEARCH, StudyRecord, TrialRecord

ARM, BATCH_SIZE = "arm", "batch_size"


@dataclass(frozen=True)
class GridPoint:
    """One combination of values, over repeats."""

    points: tuple[float, ...]  # search metric in percent, one a trial that came to a result; chance where it diverged
    interval: Interval | None  # over them; None for fewer than two
    diverged: int
    failed: int
    stopped: int  # by the user: a grid stops nothing by itself
    selected: int  # searches whose winner this is
    confirmed: tuple[float, ...]  # test accuracy in percent of those searches' confirm runs, one a repeat

    @property
    def mean(self) -> float | None:
        return sum(self.points) / len(self.points) if self.points else None

    @property
    def mean_confirmed(self) -> float | None:
        return sum(self.confirmed) / len(self.confirmed) if self.confirmed else None


@dataclass(frozen=True)
class GridTable:
    """Points laid out along two axes; a single axis has one column, or one row, of arms."""

    arms: tuple[str, ...]
    fixed: Mapping[str, Value]  # further axes, at the value that this table is for
    setting: str  # the block, batch size left out where that is an axis; empty where the study has one only
    row: str  # name of an axis
    rows: tuple[Value, ...]
    column: str
    columns: tuple[Value, ...]
    points: Mapping[tuple[Value, Value], GridPoint]  # absent: no such combination


@dataclass(frozen=True)
class _Entry:
    """One grid point of one cell, with its place on every axis that varies in the study."""

    arm: str
    setting: str
    place: Mapping[str, Value]
    point: GridPoint


def grid_tables(record: StudyRecord) -> tuple[GridTable, ...]:
    """Every table of a swept grid, in the study file's order; none where nothing varies, or nothing was swept."""
    if not record.plan.grid:
        return ()
    several = len({block.batch_size for block in record.plan.blocks}) > 1
    entries = [entry for cell in record.plan.cells for entry in _entries(record, cell, several)]
    groups: dict[tuple[object, ...], list[_Entry]] = {}
    for setting in dict.fromkeys(entry.setting for entry in entries):
        for arm in dict.fromkeys(entry.arm for entry in entries):
            own = _varying([entry for entry in entries if (entry.arm, entry.setting) == (arm, setting)])
            axes = tuple((name, *_values(own, name)) for name in _axes(own))
            if len(axes) == 1:  # arms that share their one axis share a table
                groups.setdefault((setting, axes), []).extend(own)
            elif axes:
                groups.setdefault((setting, axes, arm), []).extend(own)
    several_settings = len({entry.setting for entry in entries}) > 1
    return tuple(
        replace(table, setting=table.setting if several_settings else "")
        for own in groups.values()
        for table in _tables(own)
    )


def _entries(record: StudyRecord, cell: Cell, several_batches: bool) -> Iterator[_Entry]:
    best = {winner.repeat: dict(winner.params) for winner in winners(record, cell)}
    scores = {score.repeat: score.points for score in repeat_scores(record, cell)}
    trials = record.of_cell(cell.name, SEARCH)
    by_point: dict[tuple[tuple[str, Value], ...], list[TrialRecord]] = {}
    for trial in trials:
        by_point.setdefault(_key(trial.params), []).append(trial)
    for point in cell.points:
        chosen = [repeat for repeat, params in best.items() if _key(params) == _key(point)]
        place = {**({BATCH_SIZE: cell.block.batch_size} if several_batches else {}), **point}
        found = _point(
            by_point.get(_key(point), ()), cell.block, [scores[r] for r in chosen if r in scores], len(chosen)
        )
        yield _Entry(cell.arm, _setting(cell.block), place, found)


def _point(trials: Sequence[TrialRecord], block: Block, confirmed: Sequence[float], selected: int) -> GridPoint:
    values = [trial.value for trial in trials if trial.state in (COMPLETE, DIVERGED) and trial.value is not None]
    items = block.sizes.validation
    shares = all(0 <= value <= 1 for value in values)
    return GridPoint(
        points=tuple(100 * value for value in values),
        interval=t_interval_accuracy([value * items for value in values], items) if shares and items else None,
        diverged=sum(trial.state == DIVERGED for trial in trials),
        failed=sum(trial.state == FAILED for trial in trials),
        stopped=sum(trial.state == PRUNED for trial in trials),
        selected=selected,
        confirmed=tuple(confirmed),
    )


def _tables(entries: Sequence[_Entry]) -> Iterator[GridTable]:
    """One for each combination of what does not fit on two axes."""
    axes = _axes(entries)
    arms = tuple(dict.fromkeys(entry.arm for entry in entries))
    if len(axes) == 1:
        entries = [replace(entry, place={**entry.place, ARM: entry.arm}) for entry in entries]
        axes = [*axes, ARM]
    # Batch size stands in the columns; of the others the longest list in the rows, which a page has room for.
    by_length = sorted((axis for axis in axes if axis != BATCH_SIZE), key=lambda axis: -len(_values(entries, axis)))
    row, *others = by_length
    column, *rest = [BATCH_SIZE, *others] if BATCH_SIZE in axes else others
    for combination in dict.fromkeys(tuple(entry.place.get(axis, "") for axis in rest) for entry in entries):
        own = [entry for entry in entries if tuple(entry.place.get(axis, "") for axis in rest) == combination]
        yield GridTable(
            arms=arms,
            fixed=dict(zip(rest, combination, strict=True)),
            setting=own[0].setting,
            row=row,
            rows=_values(own, row),
            column=column,
            columns=_values(own, column),
            points={(entry.place.get(row, ""), entry.place.get(column, "")): entry.point for entry in own},
        )


def _varying(entries: Sequence[_Entry]) -> list[_Entry]:
    """The entries without the axes along which none of them moves."""
    moving = [axis for axis in _axes(entries) if len(_values(entries, axis)) > 1]
    return [
        replace(entry, place={axis: entry.place[axis] for axis in moving if axis in entry.place}) for entry in entries
    ]


def _axes(entries: Sequence[_Entry]) -> list[str]:
    return list(dict.fromkeys(axis for entry in entries for axis in entry.place))


def _values(entries: Sequence[_Entry], axis: str) -> tuple[Value, ...]:
    """As listed in the study file; an empty word where a condition leaves the knob out."""
    return tuple(dict.fromkeys(entry.place.get(axis, "") for entry in entries))


def _setting(block: Block) -> str:
    return f"{block.data.name}, {block.model}, one_d_lr {block.one_d_lr}"


def _key(params: Mapping[str, Value]) -> tuple[tuple[str, Value], ...]:
    return tuple(sorted(params.items()))
