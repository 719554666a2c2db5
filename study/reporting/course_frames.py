"""What diagnostics measured as data frames, one row per thing that a figure draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from study.analysis.courses import Course
from study.analysis.noise import NoisePoint
from study.analysis.targets import TimeToTarget


def course_frame(courses: Mapping[str, Course]) -> pd.DataFrame:
    """One row per arm and point: `arm, epoch, median, low, high`."""
    rows = [
        (arm, *point)
        for arm, course in courses.items()
        for point in zip(course.epochs, course.median, course.low, course.high, strict=True)
    ]
    return pd.DataFrame(rows, columns=["arm", "epoch", "median", "low", "high"])


def scale_course(points: Sequence[NoisePoint]) -> Course | None:
    """The noise scale by epoch, with the range of the runs' own; None where noise prevails throughout."""
    known = [point for point in points if point.scale is not None]
    if not known:
        return None
    scales = [point.scale or 0.0 for point in known]
    return Course(
        epochs=np.array([float(point.epoch) for point in known]),
        median=np.array(scales),
        low=np.array([min([scale, *p.scales]) for scale, p in zip(scales, known, strict=True)]),
        high=np.array([max([scale, *p.scales]) for scale, p in zip(scales, known, strict=True)]),
        runs=max(point.runs for point in known),
    )


def batch_size_frame(points: Mapping[tuple[str, int], NoisePoint], what: str) -> pd.DataFrame:
    """`arm, batch_size, run, value` of the last measurement; `run` is NaN in the row of the value over runs.

    Args:
        points: by arm and batch size.
        what: "scale" or "of_batch".
    """
    rows: list[tuple[str, int, float, float]] = []
    for (arm, batch_size), point in points.items():
        each = point.scales if what == "scale" else point.of_batch
        over = point.scale if what == "scale" else point.variance / batch_size
        rows += [(arm, batch_size, float(run), value) for run, value in enumerate(each) if value > 0]
        if over is not None and over > 0:
            rows.append((arm, batch_size, float("nan"), over))
    return pd.DataFrame(rows, columns=["arm", "batch_size", "run", "value"])


def target_frame(found: Mapping[str, TimeToTarget]) -> pd.DataFrame:
    """One row per arm and run: `arm, epochs, reached`."""
    rows = [(arm, time.value, time.reached) for arm, own in found.items() for time in own.times["epochs"]]
    return pd.DataFrame(rows, columns=["arm", "epochs", "reached"])
