"""Quantities along training: of one cell's confirm runs, the median with the range over runs, or over runs and layers.

Nothing here is an interval: the range is what was seen, from the lowest to the highest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from study.analysis.traces import Trace
from trainables.diagnostics.layer_table import LayerTable

MOST_POINTS = 80  # of one course
MOST_ROWS, MOST_COLUMNS = 48, 48  # of a map of layers

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Course:
    """A quantity along training, (points,) each."""

    epochs: Array  # ended; within an epoch a fraction
    median: Array
    low: Array  # the smallest
    high: Array  # the largest
    runs: int  # that have it anywhere

    @property
    def final(self) -> tuple[float, float, float]:
        """Median, low and high at the last point."""
        return float(self.median[-1]), float(self.low[-1]), float(self.high[-1])


@dataclass(frozen=True)
class LayerMap:
    """One run's ratio of norms by layer along training."""

    names: tuple[str, ...]  # (rows,) of tensors with more than one dimension, in the model's order
    values: Array  # (rows, columns) median over the records of a column; nan where there is none
    epochs: float  # where the last column ends


def report_course(runs: Sequence[Trace], key: str) -> Course | None:
    """A report key over runs, at each epoch where any of them has it; None where none has."""
    values: dict[int, list[float]] = {}
    having = 0
    for run in runs:
        found = {int(report["epoch"]): float(report[key]) for report in run.reports if key in report}
        having += bool(found)
        for epoch, value in found.items():
            values.setdefault(epoch, []).append(value)
    if not values:
        return None
    epochs = sorted(values)
    return _course([float(epoch) for epoch in epochs], [np.array(values[epoch]) for epoch in epochs], having)


def layer_course(runs: Sequence[Trace], field: str) -> Course | None:
    """`lwn`, `lgn`, `lnr` or `trust_ratio` over runs and tensors with more than one dimension.

    Records of about the same place in training share a point. Values that are not finite, and ratios of nothing, are
    left out.
    """
    places, rows = [], []
    for run in runs:
        if run.layers is None or not len(run.layers.steps):
            continue
        places.append(_places(run))
        rows.append(getattr(run.layers, field)[:, _adapted(run.layers)].astype(np.float64))
    if not places:
        return None
    count = min(MOST_POINTS, max(len(place) for place in places))
    at = np.concatenate(places)
    pooled = np.concatenate([row.ravel() for row in rows])
    owner = np.concatenate([np.repeat(place, row.shape[1]) for place, row in zip(places, rows, strict=True)])
    bins, low, width = _bins(at, count)
    of_value = np.clip(((owner - low) / width).astype(int), 0, count - 1)
    epochs, values = [], []
    for index in range(count):
        own = pooled[of_value == index]
        own = own[np.isfinite(own) & (own > 0)]
        if own.size:
            epochs.append(float(at[bins == index].mean()))
            values.append(own)
    return _course(epochs, values, len(places)) if values else None


def layer_map(run: Trace, field: str = "lnr") -> LayerMap | None:
    """One run's layers along training; None where it kept none. Many layers are thinned evenly."""
    table = run.layers
    if table is None or not len(table.steps) or not _adapted(table).any():
        return None
    columns = np.flatnonzero(_adapted(table))
    if len(columns) > MOST_ROWS:
        columns = columns[np.unique(np.linspace(0, len(columns) - 1, MOST_ROWS).round().astype(int))]
    values = getattr(table, field)[:, columns].astype(np.float64)
    values[~np.isfinite(values) | (values <= 0)] = np.nan
    places = _places(run)
    count = min(MOST_COLUMNS, len(places))
    bins, _, _ = _bins(places, count)
    cells = np.full((len(columns), count), np.nan)
    for index in range(count):
        for row, found in enumerate(values[bins == index].T):
            found = found[np.isfinite(found)]
            if found.size:
                cells[row, index] = np.median(found)
    return LayerMap(tuple(table.names[column] for column in columns), cells, float(places[-1]))


def _adapted(table: LayerTable) -> npt.NDArray[np.bool_]:
    return np.array(table.dimensions) > 1


def _places(run: Trace) -> Array:
    """Where in training each record was made, in epochs that had ended by then."""
    table = run.layers
    assert table is not None
    steps = run.last("steps")
    if steps and run.reports[-1].get("epoch"):
        an_epoch = steps / run.reports[-1]["epoch"]
    else:  # no report to learn it from
        an_epoch = (float(table.steps[-1]) + 1) / float(table.epochs[-1])
    return (table.steps.astype(np.float64) + 1) / an_epoch


def _bins(at: Array, count: int) -> tuple[npt.NDArray[np.int64], float, float]:
    """The part of the whole, of so many equal ones, that each place lies in; where they begin, and how wide each is.

    The parts are centred on places that are evenly spread, so that a run's records keep one each.
    """
    spacing = (float(at.max()) - float(at.min())) / max(count - 1, 1)
    width = spacing if spacing > 0 else 1.0
    low = float(at.min()) - width / 2
    return np.clip(((at - low) / width).astype(int), 0, count - 1).astype(np.int64), low, width


def _course(epochs: Sequence[float], values: Sequence[Array], runs: int) -> Course:
    return Course(
        epochs=np.array(epochs, dtype=np.float64),
        median=np.array([np.median(own) for own in values]),
        low=np.array([own.min() for own in values]),
        high=np.array([own.max() for own in values]),
        runs=runs,
    )
