"""The report's section on gradient noise: along training, and over batch sizes where a study has several."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup

from study.analysis.courses import Course, report_course
from study.analysis.noise import VARIANCE, NoisePoint, log_slope, noise_points
from study.analysis.summary import BlockSummary, StudySummary
from study.analysis.traces import Trace, Traces
from study.plan import Block
from study.records import StudyRecord
from study.reporting import course_figures, course_frames
from study.reporting.measured import BlockFigures, runs_of, together
from study.reporting.svg import to_svg

QUANTITIES = (("scale", "Noise scale (samples)"), (VARIANCE, "Variance of one sample's gradient"))


@dataclass(frozen=True)
class AcrossSizes:
    """Blocks that differ in batch size only, at the end of training."""

    setting: str  # empty where the study has one only
    arms: tuple[str, ...]
    scale: Markup | None  # None where noise prevails everywhere
    variance: Markup | None
    slopes: tuple[tuple[str, str], ...]  # arm, slope of log variance over log batch size


def noise_sections(
    record: StudyRecord, summary: StudySummary, traces: Traces, colours: Mapping[str, str]
) -> list[BlockFigures]:
    """Noise scale and gradient variance along training, block by block."""
    found = []
    for block in summary.blocks:
        runs = {cell.cell.arm: runs_of(record, traces, cell.cell) for cell in block.cells}
        courses: dict[str, dict[str, Course]] = {
            "scale": _present({arm: course_frames.scale_course(noise_points(own)) for arm, own in runs.items()}),
            VARIANCE: _present({arm: report_course(own, VARIANCE) for arm, own in runs.items()}),
        }
        if any(courses.values()):
            found.append(together(block, QUANTITIES, courses, colours))
    return found


def across_sizes(
    record: StudyRecord, summary: StudySummary, traces: Traces, colours: Mapping[str, str]
) -> list[AcrossSizes]:
    """The last measurements against batch size; empty where a study has one batch size, or measured no noise."""
    families: dict[str, list[BlockSummary]] = {}
    for block in summary.blocks:
        families.setdefault(_setting(block.block), []).append(block)
    found = []
    for setting, blocks in families.items():
        points = {
            (cell.cell.arm, block.block.batch_size): point
            for block in sorted(blocks, key=lambda block: block.block.batch_size)
            for cell in block.cells
            if "batch_size" not in cell.cell.dimensions
            and (point := _last(runs_of(record, traces, cell.cell))) is not None
        }
        if len({size for _, size in points}) > 1:
            found.append(_across(setting if len(families) > 1 else "", points, colours))
    return found


def _across(setting: str, points: Mapping[tuple[str, int], NoisePoint], colours: Mapping[str, str]) -> AcrossSizes:
    where = f" in {setting}" if setting else ""
    arms = tuple(dict.fromkeys(arm for arm, _ in points))
    scale = course_frames.batch_size_frame(points, "scale")
    variance = course_frames.batch_size_frame(points, "of_batch")
    smallest = min(size for _, size in points)
    first = statistics.median(point.variance / smallest for (_, size), point in points.items() if size == smallest)
    return AcrossSizes(
        setting=setting,
        arms=arms,
        scale=_drawn(scale, colours, "Noise scale (samples)", (smallest, smallest, 1.0), f"Noise scale{where}"),
        variance=_drawn(
            variance, colours, "Variance of a batch gradient", (smallest, first, -1.0), f"Gradient variance{where}"
        ),
        slopes=tuple((arm, _slope_text(arm, points)) for arm in arms),
    )


def _drawn(
    frame: pd.DataFrame, colours: Mapping[str, str], label: str, guide: tuple[float, float, float], title: str
) -> Markup | None:
    if frame.empty or guide[1] <= 0:
        return None
    return to_svg(course_figures.batch_size_figure(frame, colours, label, guide), f"{title} against batch size")


def _slope_text(arm: str, points: Mapping[tuple[str, int], NoisePoint]) -> str:
    own = [(size, point.variance / size) for (other, size), point in points.items() if other == arm]
    slope = log_slope([size for size, _ in own], [value for _, value in own])
    return "-" if slope is None else f"{slope:.2f}"


def _last(runs: Sequence[Trace]) -> NoisePoint | None:
    found = noise_points(runs)
    return found[-1] if found else None


def _present(courses: Mapping[str, Course | None]) -> dict[str, Course]:
    return {arm: course for arm, course in courses.items() if course is not None}


def _setting(block: Block) -> str:
    return f"{block.data.name}, {block.model}, one_d_lr {block.one_d_lr}"
