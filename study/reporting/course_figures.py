"""Figures of what diagnostics measured: courses along training, gradient noise against batch size, times to target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from study.reporting.canvas import FONT, ROW_HEIGHT, axes_of, log_axis, panel, row_text, wants_log
from study.reporting.palette import GRID, INK, MUTED, PAPER

_BAND = 0.16  # opacity of a range


@dataclass(frozen=True)
class Scale:
    """An upright axis that several figures share."""

    low: float
    high: float
    log: bool


def courses_figure(
    frame: pd.DataFrame,
    colours: Mapping[str, str],
    label: str,
    epochs: int,
    scale: Scale | None = None,
    bands: bool = True,
) -> Figure:
    """Medians along training as lines, ranges as bands; a single point is a dot with its range as an upright line.

    The scale is logarithmic where all is positive and spans more than a factor of 30.

    Args:
        frame: of `course_frames.course_frame`.
        label: of the quantity; empty where a heading says it.
        epochs: the full length.
        scale: the same for several figures; as the values want where it is not given.
        bands: whether ranges are drawn; those of many arms that all reach far would hide each other.
    """
    figure, axes = panel()
    shown = frame[["median", "low", "high"] if bands else ["median"]].to_numpy(dtype=float)
    if wants_log(shown) if scale is None else scale.log:
        log_axis(axes, "y")
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    for arm, own in frame.groupby("arm", sort=False):
        colour = colours[str(arm)]
        if len(own) == 1:
            if bands:
                axes.plot(own["epoch"].repeat(2), own[["low", "high"]].iloc[0], color=colour, lw=1.2, zorder=2)
            axes.plot(own["epoch"], own["median"], "o", color=colour, ms=5, zorder=3, ls="none")
            continue
        if bands:
            axes.fill_between(own["epoch"], own["low"], own["high"], color=colour, alpha=_BAND, lw=0, zorder=2)
        axes.plot(own["epoch"], own["median"], color=colour, lw=1.8, zorder=3)
    axes.set_xlim(0, epochs * 1.02)
    if scale is not None:
        axes.set_ylim(scale.low, scale.high)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_xlabel("Epoch", color=INK, fontsize=FONT)
    axes.set_ylabel(label, color=INK, fontsize=FONT)
    return figure


def common_scale(frames: pd.DataFrame) -> Scale | None:
    """A scale that holds every course of a block, with some air; None without any."""
    shown = frames[["low", "high"]].to_numpy(dtype=float)
    if not shown.size:
        return None
    low, high = float(shown.min()), float(shown.max())
    if wants_log(shown):
        return Scale(low / 1.2, high * 1.2, log=True)
    air = 0.05 * (high - low) or 0.05 * abs(high) or 0.5
    return Scale(low - air, high + air, log=False)


def batch_size_figure(
    frame: pd.DataFrame, colours: Mapping[str, str], label: str, guide: tuple[float, float, float]
) -> Figure:
    """A quantity against batch size, both axes logarithmic: a dot a run, a line through the values over runs.

    Args:
        frame: `arm, batch_size, run, value`; `run` is NaN in an arm's value, and each run's own number otherwise.
        guide: `(batch size, value, slope)`: a dotted straight line through this point with this slope.
    """
    figure, axes = panel()
    log_axis(axes, "x")
    log_axis(axes, "y")
    for arm, own in frame.groupby("arm", sort=False):
        each, line = own[own["run"].notna()], own[own["run"].isna()].sort_values("batch_size")
        axes.plot(
            each["batch_size"], each["value"], "o", color=colours[str(arm)], ms=3.6, alpha=0.55, zorder=2, ls="none"
        )
        axes.plot(line["batch_size"], line["value"], "-", color=colours[str(arm)], lw=1.8, zorder=3)
    sizes = sorted(frame["batch_size"].unique())
    at, value, slope = guide
    ends = np.array([sizes[0] / 1.15, sizes[-1] * 1.15])
    axes.plot(ends, value * (ends / at) ** slope, color=MUTED, lw=1.2, ls=(0, (2, 2)), zorder=1)
    _ticks_at(axes, sizes)
    axes.set_xlabel("Batch size", color=INK, fontsize=FONT)
    axes.set_ylabel(label, color=INK, fontsize=FONT)
    return figure


def target_figure(frame: pd.DataFrame, colours: Mapping[str, str], epochs: int) -> Figure:
    """Epochs to the target: a row an arm, a full dot a run that reached it, an open arrow one that did not in its time.

    Args:
        frame: `arm, epochs, reached`, arms in the order of rows; a diverged run's `epochs` is inf.
        epochs: the full length.
    """
    arms = list(dict.fromkeys(frame["arm"]))
    figure, axes = axes_of(440, ROW_HEIGHT * len(arms) + 52, left=8, right=14, top=4, bottom=48)
    for row, arm in enumerate(arms):
        own = frame[frame["arm"] == arm]
        row_text(axes, row, f"{arm}: {int(own['reached'].sum())} of {len(own)}", INK, "left")
        y, above = row + 0.22, min(0.14, 0.6 / len(own))
        axes.plot([0, epochs], [y, y], color=GRID, lw=0.8, zorder=1)
        for reached, marker, fill in ((True, "o", colours[arm]), (False, ">", "none")):
            drawn = own[own["reached"] == reached]
            places = np.minimum(drawn["epochs"].to_numpy(dtype=float), epochs)
            heights = (
                y - above * pd.Series(places).groupby(places).cumcount().to_numpy()
            )  # equal ones stand on each other
            edge = PAPER if reached else colours[arm]
            axes.plot(
                places,
                heights,
                marker,
                ms=6.5,
                mfc=fill,
                mec=edge,
                mew=0.8 if reached else 1.5,
                ls="none",
                zorder=3,
                clip_on=False,
            )
    axes.set_xlim(0, epochs)
    axes.set_ylim(len(arms) - 0.5, -0.6)
    axes.set_yticks([])
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("Epochs to the target", color=INK, fontsize=FONT, labelpad=6)
    return figure


def _ticks_at(axes: Axes, sizes: list[int]) -> None:
    """The batch sizes themselves, as far as their labels have room."""
    kept: list[int] = []
    for size in sizes:
        if not kept or size / kept[-1] >= (sizes[-1] / sizes[0]) ** (1 / 5):
            kept.append(size)
    axes.set_xticks(kept, [f"{size:,}" for size in kept])
    axes.minorticks_off()
