"""Figures of the report: each function takes a data frame and returns a matplotlib Figure. No pyplot, no global state.

Sizes are in CSS pixels at 72 dots an inch, so a font of 10 is 10 pixels where the figure keeps its width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from search_spaces import Float, Int
from study.records import COMPLETE, CONFIRM, DIVERGED, FAILED, PRUNED, SEARCH
from study.reporting.canvas import FONT, ROW_HEIGHT, Limits, axes_of, log_axis, panel, row_text, span
from study.reporting.palette import ALARM, GRID, INK, MUTED, PAPER

_MOST_POINTS = 80  # of one drawn curve; more would not be seen


def accuracy_figure(frame: pd.DataFrame, colours: Mapping[str, str], chance: float | None = None) -> Figure:
    """Test accuracy of a block's cells: a dot per repeat, the mean as a bar, the t interval as a line.

    Args:
        frame: of `frames.accuracy_frame`, arms in the order of rows from the top.
        chance: accuracy of guessing, in points; drawn where it lies in view.
    """
    arms = list(dict.fromkeys(frame["arm"]))
    width, height = 440, ROW_HEIGHT * len(arms) + 52
    figure, axes = axes_of(width, height, left=2, right=2, top=4, bottom=48)
    for row, arm in enumerate(arms):
        own = frame[frame["arm"] == arm]
        first, colour = own.iloc[0], colours[arm]
        row_text(axes, row, arm, INK, "left")
        if np.isnan(first["mean"]):
            row_text(axes, row, "no confirm run", MUTED, "right")
            continue
        row_text(axes, row, f"{first['mean']:.1f}", INK, "right")
        y = row + 0.16
        if not np.isnan(first["low"]):
            axes.plot([first["low"], first["high"]], [y, y], color=colour, lw=2, solid_capstyle="butt", zorder=2)
            axes.plot([first["low"]] * 2, [y - 0.1, y + 0.1], color=colour, lw=2, zorder=2)
            axes.plot([first["high"]] * 2, [y - 0.1, y + 0.1], color=colour, lw=2, zorder=2)
        axes.plot([first["mean"]] * 2, [y - 0.2, y + 0.2], color=INK, lw=1.6, zorder=3)
        heights = y - 0.13 * own.groupby("points").cumcount()  # equal scores stand on each other
        axes.plot(own["points"], heights, "o", ms=6.5, color=colour, mec=PAPER, mew=0.8, zorder=4, ls="none")
    shown = frame[["points", "low", "high"]].to_numpy(dtype=float)
    low, high = span(shown[~np.isnan(shown)])
    axes.set_xlim(low, high)
    axes.set_ylim(len(arms) - 0.5, -0.6)
    if chance is not None and low < chance < high:
        axes.axvline(chance, color=MUTED, lw=0.8, ls=(0, (2, 2)), zorder=1)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.set_yticks([])
    axes.grid(axis="x", color=GRID, lw=0.8)
    axes.set_xlabel("Test accuracy (%)", color=INK, fontsize=FONT, labelpad=6)
    return figure


def curves_figure(frame: pd.DataFrame, colour: str, epochs: int, rungs: Sequence[int], y_limits: Limits) -> Figure:
    """Learning curves of one cell: search trials thin, confirm runs thick; a cross ends a diverged trial, a bar a
    stopped one; rungs are dotted lines.

    Args:
        frame: of `frames.curve_frame`, the rows of one cell; `metric` is drawn in percent.
        y_limits: in percent, the same for every cell of a block.
    """
    figure, axes = panel()
    for rung in rungs:
        axes.axvline(rung, color=MUTED, lw=0.9, ls=(0, (1, 2)), zorder=1)
    curves = [(trial, _curve(rows)) for trial, rows in frame.groupby(["phase", "state", "number"], sort=True)]
    for phase, width, alpha, order in ((SEARCH, 0.9, 0.5, 2), (CONFIRM, 2.2, 1.0, 4)):
        lines = [curve for (own, _, _), curve in curves if own == phase and len(curve) > 1]
        axes.add_collection(LineCollection(lines, colors=colour, linewidths=width, alpha=alpha, zorder=order))
    dots = np.array([curve[0] for _, curve in curves if len(curve) == 1]).reshape(-1, 2)
    if len(dots):
        axes.plot(dots[:, 0], dots[:, 1], ".", color=colour, ms=5, zorder=3, ls="none")
    for state, marker, ink in ((PRUNED, "|", MUTED), (DIVERGED, "x", ALARM), (FAILED, "s", ALARM)):
        ends = np.array([curve[-1] for (_, own, _), curve in curves if own == state]).reshape(-1, 2)
        if len(ends):
            axes.plot(
                ends[:, 0], ends[:, 1], marker, color=ink, ms=6, mew=1.4, mfc="none", zorder=5, ls="none", clip_on=False
            )
    axes.set_xlim(0 if epochs > 1 else 0.5, epochs * 1.02)
    axes.set_ylim(*y_limits)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.set_xlabel("Epoch", color=INK, fontsize=FONT)
    axes.set_ylabel("Validation accuracy (%)", color=INK, fontsize=FONT)
    return figure


def knob_figure(
    frame: pd.DataFrame, knob: str, dimension: Float | Int, winners: Sequence[int], colour: str, y_limits: Limits
) -> Figure:
    """Where the search trials of one cell lie on one knob's range, by outcome; the outer 10% at each end is shaded.

    Args:
        frame: of `frames.knob_frame`; `value` is drawn in percent.
        winners: numbers of the selected trials; each gets a ring in the arm's `colour`.
    """
    figure, axes = panel()
    low, high = dimension.low, dimension.high
    if dimension.log:
        log_axis(axes, "x")
    if low < high:
        for start, end in ((0.0, 0.1), (0.9, 1.0)):
            axes.axvspan(_at(dimension, start), _at(dimension, end), color=GRID, lw=0, alpha=0.6, zorder=0)
    drawn = frame.assign(points=100 * frame["value"].fillna(y_limits[0] / 100))
    for state, marker, ink, fill in (
        (PRUNED, "o", MUTED, "none"),
        (COMPLETE, "o", INK, INK),
        (DIVERGED, "x", ALARM, "none"),
        (FAILED, "s", ALARM, "none"),
    ):
        own = drawn[drawn["state"] == state]
        if len(own):
            axes.plot(
                own["setting"],
                own["points"],
                marker,
                color=ink,
                mfc=fill,
                ms=5,
                mew=1.2,
                ls="none",
                zorder=3,
                clip_on=False,
            )
    selected = drawn[drawn["number"].isin(winners)]
    axes.plot(
        selected["setting"],
        selected["points"],
        "o",
        ms=10.5,
        mfc="none",
        mec=colour,
        mew=2,
        ls="none",
        zorder=4,
        clip_on=False,
    )
    axes.set_xlim(_at(dimension, -0.04), _at(dimension, 1.04))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_ylim(*y_limits)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.set_xlabel(f"{knob} (log scale)" if dimension.log else knob, color=INK, fontsize=FONT)
    axes.set_ylabel("Search value (%)", color=INK, fontsize=FONT)
    return figure


def metric_limits(values: Sequence[float]) -> Limits:
    """Common bounds for a metric in percent, from values in [0, 1], on whole tens."""
    finite = np.asarray([value for value in values if np.isfinite(value)], dtype=float) * 100
    if not finite.size:
        return 0.0, 102.0
    return max(10 * np.floor(finite.min() / 10), 0.0), 10 * np.ceil(finite.max() / 10) + 2.0


def _curve(rows: pd.DataFrame) -> np.ndarray:
    """Epoch and percent, (points, 2); long curves are thinned, their last point kept."""
    points = np.column_stack([rows["epoch"], 100 * rows["metric"]])
    step = -(-len(points) // _MOST_POINTS)
    return points if step == 1 else points[::-1][::step][::-1]


def _at(dimension: Float | Int, position: float) -> float:
    low, high = float(dimension.low), float(dimension.high)
    if low == high:
        spread = 0.1 * abs(low) or 1.0
        return low + (position - 0.5) * spread
    return float(low * (high / low) ** position) if dimension.log else low + position * (high - low)
