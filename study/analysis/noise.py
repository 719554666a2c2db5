"""Gradient noise of a cell's confirm runs: moments averaged over runs first, their ratio taken last.

McCandlish et al., arXiv 1812.06162, appendix A.1: the ratio of unbiased moments is biased, so a mean of ratios is too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from study.analysis.traces import Trace

VARIANCE, SQUARE, SCALE, OF_BATCH = "noise/variance", "noise/gradient_squared", "noise/scale", "noise/batch_variance"


@dataclass(frozen=True)
class NoisePoint:
    """Gradient noise after one epoch, over runs."""

    epoch: int
    runs: int
    variance: float  # of one sample's gradient, summed over parameters: the mean over runs
    scale: float | None  # in samples; None where noise prevails and the mean squared gradient is not above 0
    scales: tuple[float, ...]  # of each run by itself, where it has one; ascending
    of_batch: tuple[float, ...]  # variance of a batch's gradient, run by run; ascending


def noise_points(runs: Sequence[Trace]) -> tuple[NoisePoint, ...]:
    """By epoch, ascending; empty where nothing was measured."""
    measured: dict[int, list[dict[str, float]]] = {}
    for run in runs:
        for report in run.reports:
            if VARIANCE in report and SQUARE in report:
                measured.setdefault(int(report["epoch"]), []).append(dict(report))
    return tuple(_point(epoch, measured[epoch]) for epoch in sorted(measured))


def _point(epoch: int, reports: Sequence[dict[str, float]]) -> NoisePoint:
    variance = float(np.mean([report[VARIANCE] for report in reports]))
    square = float(np.mean([report[SQUARE] for report in reports]))
    return NoisePoint(
        epoch=epoch,
        runs=len(reports),
        variance=variance,
        scale=variance / square if square > 0 and math.isfinite(variance / square) else None,
        scales=tuple(sorted(report[SCALE] for report in reports if SCALE in report)),
        of_batch=tuple(sorted(report[OF_BATCH] for report in reports if OF_BATCH in report)),
    )


def log_slope(sizes: Sequence[float], values: Sequence[float]) -> float | None:
    """Slope of a straight line by least squares through log value against log size; None for fewer than two sizes."""
    known = [(size, value) for size, value in zip(sizes, values, strict=True) if size > 0 and value > 0]
    if len({size for size, _ in known}) < 2:
        return None
    x, y = np.log(np.array(known, dtype=np.float64)).T
    return float(np.sum((x - x.mean()) * (y - y.mean())) / np.sum((x - x.mean()) ** 2))
