"""A study's record as data frames, one row per thing that a figure draws."""

from __future__ import annotations

import pandas as pd

from study.analysis.summary import BlockSummary
from study.plan import Block, Cell
from study.records import SEARCH, StudyRecord

_TRIAL_COLUMNS = ("number", "cell", "arm", "block", "repeat", "phase", "index", "state", "epochs", "value")


def accuracy_frame(block: BlockSummary) -> pd.DataFrame:
    """One row per cell and repeat of a block, in the order of ranking: `arm, repeat, points, mean, low, high`.

    A cell without a score has one row with NaN in `points`; `low` and `high` are NaN where there is no interval.
    """
    rows: list[tuple[object, ...]] = []
    for cell in block.cells:
        interval = cell.interval
        bounds = (interval.low, interval.high) if interval else (float("nan"), float("nan"))
        points = [(score.repeat, score.points) for score in cell.scores] or [(-1, float("nan"))]
        mean = cell.mean_points if cell.mean_points is not None else float("nan")
        rows.extend((cell.cell.arm, repeat, value, mean, *bounds) for repeat, value in points)
    return pd.DataFrame(rows, columns=["arm", "repeat", "points", "mean", "low", "high"])


def curve_frame(record: StudyRecord, block: Block) -> pd.DataFrame:
    """One row per trial and epoch of a block: the trial's columns, then `epoch` and `metric` (as reported)."""
    names = {cell.name for cell in record.plan.cells if cell.block.label == block.label}
    rows = [
        (*(getattr(trial, column) for column in _TRIAL_COLUMNS), epoch, metric)
        for trial in record.trials
        if trial.cell in names
        for epoch, metric in sorted(trial.curve.items())
    ]
    return pd.DataFrame(rows, columns=[*_TRIAL_COLUMNS, "epoch", "metric"])


def knob_frame(record: StudyRecord, cell: Cell, knob: str) -> pd.DataFrame:
    """One row per ended search trial of a cell that has `knob`: the trial's columns, then `setting`.

    A trial without a search value (a crash) stands at NaN.
    """
    rows = [
        (*(getattr(trial, column) for column in _TRIAL_COLUMNS), float(trial.params[knob]))
        for trial in record.of_cell(cell.name, SEARCH)
        if trial.finished and knob in trial.params
    ]
    frame = pd.DataFrame(rows, columns=[*_TRIAL_COLUMNS, "setting"])
    return frame.astype({"value": float})
