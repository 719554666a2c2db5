"""What every figure of the report starts from: axes of a size in CSS pixels, at 72 dots an inch."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from study.reporting.palette import GRID, MUTED

FONT = 10.5
PANEL = (300, 205)
ROW_HEIGHT = 40
LOG_FROM = 30.0  # ratio of the largest value to the smallest from which a scale is logarithmic
_DPI = 72

Limits = tuple[float, float]


def row_text(axes: Axes, row: int, text: str, colour: str, side: str) -> None:
    """A word above a row, at the left end or at the right one."""
    place = axes.get_yaxis_transform()
    x = 0 if side == "left" else 1
    axes.text(x, row - 0.27, text, transform=place, color=colour, fontsize=FONT, ha=side, va="center")


def panel() -> tuple[Figure, Axes]:
    """A small figure of one cell, or of one quantity."""
    figure, axes = axes_of(*PANEL, left=44, right=10, top=8, bottom=38)
    axes.grid(axis="y", color=GRID, lw=0.8)
    return figure, axes


def axes_of(width: int, height: int, *, left: int, right: int, top: int, bottom: int) -> tuple[Figure, Axes]:
    """A figure of this size whose axes leave these margins, all in pixels."""
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    box = (left / width, bottom / height, 1 - (left + right) / width, 1 - (top + bottom) / height)
    axes = figure.add_axes(box)
    axes.set_axisbelow(True)
    axes.set_facecolor("none")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)
    axes.tick_params(which="both", length=0, labelsize=FONT - 1, labelcolor=MUTED, pad=5)
    return figure, axes


def span(values: np.ndarray) -> Limits:
    """Bounds with some air, within 0 to 100 but for that air."""
    if not values.size:
        return 0.0, 100.0
    low, high = float(values.min()), float(values.max())
    air = max(0.06 * (high - low), 0.5)
    return low - air, high + air


def log_axis(axes: Axes, name: str) -> None:
    """Make the `x` or `y` axis logarithmic, with few labels that read as plain numbers."""
    (axes.set_xscale if name == "x" else axes.set_yscale)("log")
    axis = axes.xaxis if name == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(numticks=6))
    axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(lambda value, _: f"{value:g}")


def wants_log(values: np.ndarray) -> bool:
    """Whether these values are better seen on a logarithmic scale."""
    return bool(values.size and values.min() > 0 and values.max() / values.min() >= LOG_FROM)
