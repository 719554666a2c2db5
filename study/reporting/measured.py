"""Sections of the report that a study has only where its diagnostics are on: figures, tables and their headings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from study.analysis.courses import Course, LayerMap, layer_course, layer_map, report_course
from study.analysis.scores import confirming
from study.analysis.summary import BlockSummary, StudySummary
from study.analysis.traces import Trace, Traces
from study.plan import Cell
from study.records import StudyRecord
from study.reporting import course_figures, course_frames, heat
from study.reporting.svg import to_svg

OVERLAYS = (("lwn", "Norm of weights (LWN)"), ("lgn", "Norm of gradients (LGN)"), ("trust_ratio", "Trust ratio"))
CURVATURE = (
    ("curvature/largest", "Largest eigenvalue"),
    ("curvature/smallest", "Smallest eigenvalue"),
    ("curvature/sam_sharpness", "SAM sharpness"),
)


@dataclass(frozen=True)
class Figure:
    """A small figure with its heading; `arm` where it is of one arm alone."""

    title: str
    svg: Markup
    arm: str | None = None


@dataclass(frozen=True)
class Finals:
    """What stood at the end of training: a row an arm, a column a quantity."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, int, tuple[str, ...]], ...]  # arm, runs, cells


@dataclass(frozen=True)
class BlockFigures:
    """One block's part of a section."""

    label: str
    arms: tuple[str, ...]  # that have anything
    single: tuple[Figure, ...]  # one arm each
    overlays: tuple[Figure, ...]  # all arms in each
    maps: tuple[Figure, ...]
    map_scale: tuple[str, str] | None  # the values of the lightest and of the darkest shade
    finals: Finals


def runs_of(record: StudyRecord, traces: Traces, cell: Cell) -> list[Trace]:
    """The traces of the cell's confirm runs that count."""
    return [traces[trial.number] for trial in confirming(record, cell) if trial.number in traces]


def layer_sections(
    record: StudyRecord, summary: StudySummary, traces: Traces, colours: Mapping[str, str]
) -> list[BlockFigures]:
    """LNR by arm, the other norms with all arms together, and a map of layers of each arm's first run."""
    found = []
    for block in summary.blocks:
        runs = {cell.cell.arm: runs_of(record, traces, cell.cell) for cell in block.cells}
        ratios = _courses(runs, lambda own: layer_course(own, "lnr"))
        if not ratios:
            continue
        label, epochs = block.block.label, block.block.epochs
        scale = course_figures.common_scale(course_frames.course_frame(ratios))
        others = {name: _courses(runs, lambda own, name=name: layer_course(own, name)) for name, _ in OVERLAYS}  # type: ignore[misc]
        maps = {
            arm: drawn
            for arm, own in runs.items()
            if (drawn := next(filter(None, map(layer_map, own)), None)) is not None
        }
        figures, map_scale = _maps(maps, label)
        found.append(
            BlockFigures(
                label=label,
                arms=tuple(ratios),
                single=tuple(
                    Figure(
                        arm,
                        to_svg(
                            course_figures.courses_figure(
                                course_frames.course_frame({arm: course}), colours, "LNR = LWN / LGN", epochs, scale
                            ),
                            f"Ratio of norms (LNR) over the layers of {arm} in {label} along training",
                        ),
                        arm,
                    )
                    for arm, course in ratios.items()
                ),
                overlays=tuple(_overlays(OVERLAYS, others, colours, epochs, label, bands=False)),
                maps=figures,
                map_scale=map_scale,
                finals=_finals((("LNR", ratios), *((title, others[name]) for name, title in OVERLAYS))),
            )
        )
    return found


def curvature_sections(
    record: StudyRecord, summary: StudySummary, traces: Traces, colours: Mapping[str, str]
) -> list[BlockFigures]:
    """Both ends of the Hessian's spectrum and SAM sharpness along training, all arms together."""
    found = []
    for block in summary.blocks:
        courses = {key: _report_courses(record, traces, block, key) for key, _ in CURVATURE}
        if any(courses.values()):
            found.append(together(block, CURVATURE, courses, colours))
    return found


def together(
    block: BlockSummary,
    quantities: Sequence[tuple[str, str]],
    courses: Mapping[str, Mapping[str, Course]],
    colours: Mapping[str, str],
) -> BlockFigures:
    """Figures of quantities along training with all of a block's arms in each; `courses` by key, then arm."""
    label, epochs = block.block.label, block.block.epochs
    having = {arm for own in courses.values() for arm in own}
    return BlockFigures(
        label=label,
        arms=tuple(cell.cell.arm for cell in block.cells if cell.cell.arm in having),
        single=(),
        overlays=tuple(_overlays(quantities, courses, colours, epochs, label)),
        maps=(),
        map_scale=None,
        finals=_finals(tuple((title, courses[key]) for key, title in quantities)),
    )


def number_text(value: float) -> str:
    """Three significant digits, thousands with a comma."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"


def _courses(
    runs: Mapping[str, Sequence[Trace]], course: Callable[[Sequence[Trace]], Course | None]
) -> dict[str, Course]:
    found = {arm: course(own) for arm, own in runs.items()}
    return {arm: own for arm, own in found.items() if own is not None}


def _report_courses(record: StudyRecord, traces: Traces, block: BlockSummary, key: str) -> dict[str, Course]:
    runs = {cell.cell.arm: runs_of(record, traces, cell.cell) for cell in block.cells}
    return _courses(runs, lambda own: report_course(own, key))


def _overlays(
    quantities: Iterable[tuple[str, str]],
    courses: Mapping[str, Mapping[str, Course]],
    colours: Mapping[str, str],
    epochs: int,
    label: str,
    bands: bool = True,
) -> Iterable[Figure]:
    for key, title in quantities:
        if courses[key]:
            frame = course_frames.course_frame(courses[key])
            figure = course_figures.courses_figure(frame, colours, "", epochs, bands=bands)
            yield Figure(title, to_svg(figure, f"{title} of every arm in {label} along training"))


def _maps(maps: Mapping[str, LayerMap], label: str) -> tuple[tuple[Figure, ...], tuple[str, str] | None]:
    limits = heat.map_limits(list(maps.values()))
    if limits is None:
        return (), None
    figures = tuple(
        Figure(arm, heat.map_svg(found, limits, f"LNR of each layer of {arm} in {label} along training"), arm)
        for arm, found in maps.items()
    )
    return figures, (number_text(limits[0]), number_text(limits[1]))


def _finals(columns: Sequence[tuple[str, Mapping[str, Course]]]) -> Finals:
    kept = [(title, courses) for title, courses in columns if courses]
    arms = dict.fromkeys(arm for _, courses in kept for arm in courses)
    return Finals(
        heads=tuple(title for title, _ in kept),
        rows=tuple(
            (
                arm,
                max(courses[arm].runs for _, courses in kept if arm in courses),
                tuple(_final_text(courses.get(arm)) for _, courses in kept),
            )
            for arm in arms
        ),
    )


def _final_text(course: Course | None) -> str:
    if course is None:
        return "-"
    median, low, high = map(number_text, course.final)
    return median if low == high else f"{median} ({low} to {high})"
