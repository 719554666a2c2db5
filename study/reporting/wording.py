"""Numbers and findings in words, shared by table and report. Plain ASCII; describes, never decides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from study.analysis.flags import KINDS
from study.analysis.intervals import Difference, Interval, Rate
from study.analysis.summary import BlockSummary, CellSummary, StudySummary
from study.plan import Block

MOST_POINTS = 100  # between two accuracies
FEW_REPEATS = 5  # below it an estimated spread is itself too rough to lean on
DIVERGENCE_NOTE = (
    "The divergence rate is over all search trials that were started and ended: stopped and failed trials are in the "
    "denominator, although a stopped one might have diverged later. Its interval (Clopper-Pearson) takes trials as "
    "independent, which a sampler that learns makes only roughly true."
)
SEARCH_VALUE_NOTE = (
    "A search value selected its configuration on the validation split, so it is too good by construction. "
    "It is shown to trace the selection and is no measure of performance."
)


def answer(summary: StudySummary) -> tuple[str, ...]:
    """One statement per block: which cell scored highest, and whose intervals overlap with its interval."""
    several = len(summary.blocks) > 1
    return tuple(_answer_in(block, summary, several) for block in summary.blocks)


def _answer_in(block: BlockSummary, summary: StudySummary, several: bool) -> str:
    where = f"In {block.block.label}, " if several else ""
    scored = [cell for cell in block.cells if cell.mean_points is not None]
    if not scored:
        return _begin(f"{where}no confirm run has come to a result yet, so there is no test accuracy to report.")
    best = scored[0]
    top = [cell for cell in scored if cell.mean_points == best.mean_points]
    if summary.single_repeat:
        where += "for the configurations found, "
    if len(scored) == 1:
        text = f"{where}{_name(best)} is the only cell with a test accuracy: {_score(best)}."
    elif len(top) > 1:
        names = listed([_name(cell) for cell in top])
        text = f"{where}{names} share the highest mean test accuracy, {best.mean_points:.1f}%."
    else:
        text = f"{where}{_name(best)} has the highest mean test accuracy, {_score(best)}."
    parts = [_begin(text), *_neighbours(best, scored[1:], f"{_name(best)}'s" if len(top) > 1 else "its")]
    if all(score.diverged == score.runs for cell in scored for score in cell.scores):
        parts.append("All confirm runs diverged: this is chance accuracy.")
    missing = [_name(cell) for cell in block.cells if cell.mean_points is None]
    if missing:
        parts.append(f"No confirm run of {listed(missing)} has come to a result.")
    if summary.single_repeat:
        parts.append(
            "One search per cell gives no interval: how far another search of the same arms would land from this "
            "is not known."
        )
    return " ".join(parts)


def _neighbours(best: CellSummary, others: Sequence[CellSummary], whose: str) -> list[str]:
    if best.interval is None:
        return []
    if best.interval.has_no_width:
        return [f"All {whose} repeats scored the same: the interval has no width, and overlap says nothing here."]
    overlap = [c for c in others if c.interval is not None and best.interval.overlaps(c.interval)]
    apart = [c for c in others if c.interval is not None and not best.interval.overlaps(c.interval)]
    alone = [c for c in others if c.interval is None]
    parts = []
    if overlap:
        parts.append(f"{_begin(whose)} interval overlaps with {_whose(overlap)}.")
    if apart:
        parts.append(f"{'It' if overlap else f'{_begin(whose)} interval'} does not overlap with {_whose(apart)}.")
    if alone:
        parts.append(f"{listed([_name(c) for c in alone])}: one repeat so far, no interval.")
    return parts


def _whose(cells: Sequence[CellSummary]) -> str:
    return ("that of " if len(cells) == 1 else "those of ") + listed([_name(cell) for cell in cells])


def resolution_text(block: BlockSummary, summary: StudySummary) -> str:
    """What the block's test images and repeats can show."""
    found = block.resolution
    text = f"{found.items:,} test images: one image is {found.image_points:.2g} points"
    if found.standard_error_points is not None:
        text += (
            f", and the images alone give an accuracy of {found.at_points:.1f}% "
            f"a standard error of {found.standard_error_points:.2g} points"
        )
    text += "."
    if found.difference_points is None:
        why = "One repeat gives" if summary.single_repeat else "The repeats so far give"
        return f"{text} {why} no interval of a difference between two cells."
    rough = " From so few repeats that reach is itself rough." if summary.plan.repeats < FEW_REPEATS else ""
    low, high = found.half_widths[0], found.half_widths[-1]
    spread = f" ({low:.1f} to {_points(high)}, by pair of cells)" if len(found.half_widths) > 1 else ""
    if found.difference_points >= MOST_POINTS:
        return (
            f"{text} With {summary.plan.repeats} repeats a paired {found.level:.0%} interval of a difference reaches "
            f"{MOST_POINTS} points and more to either side: no difference between two cells' means can be shown here."
        )
    return (
        f"{text} With {summary.plan.repeats} repeats a paired {found.level:.0%} interval of a difference reaches about "
        f"{found.difference_points:.1f} points to either side{spread}: a smaller difference between two cells' means "
        f"cannot be shown here.{rough}"
    )


def _points(half_width: float) -> str:
    """An accuracy's difference has at most 100 points; a t interval of two repeats knows nothing of that."""
    return f"{half_width:.1f}" if half_width < MOST_POINTS else f"{MOST_POINTS} and more"


def grouped_flags(block: BlockSummary) -> list[tuple[str, list[tuple[str, str]]]]:
    """What to know about a block's cells, by kind: (kind, [(arm, detail), ...])."""
    groups = []
    for what in KINDS:
        found = [(cell.cell.arm, f.detail) for cell in block.cells for f in cell.flags if f.what == what]
        if found:
            groups.append((what, found))
    return groups


def block_text(block: Block) -> str:
    """A block's settings in one line."""
    steps = "1 step" if block.steps_per_epoch == 1 else f"{block.steps_per_epoch:,} steps"
    return (
        f"{block.data.name}, {block.model}, batch size {block.batch_size:,} ({steps} an epoch), "
        f"{block.epochs:,} epochs, one_d_lr {block.one_d_lr}"
    )


def interval_text(interval: Interval | None) -> str:
    return f"[{interval.low:.1f}, {interval.high:.1f}]" if interval else "no interval"


def difference_text(difference: Difference) -> str:
    return f"{difference.mean:+.1f} points [{difference.low:+.1f}, {difference.high:+.1f}]"


def rate_text(rate: Rate | None) -> str:
    if rate is None:
        return "none ended"
    return f"{rate.events} of {rate.trials} ({100 * rate.low:.0f} to {100 * rate.high:.0f}%)"


def share_text(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f}%" if whole else "-"


def duration_text(seconds: float) -> str:
    """`2 min 51 s`; `1 h 4 min`; `3.2 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min"


def hours_text(hours: float) -> str:
    """Hours to two digits or, below a tenth, to two significant ones."""
    return f"{hours:,.2f}" if hours >= 0.1 or hours == 0 else f"{hours:.2g}"


def accuracy_text(spec: Mapping[str, object]) -> tuple[str, ...]:
    """What `accuracy` means, where the task is no plain classification; a sentence each."""
    task = spec.get("task")
    name = task.get("name") if isinstance(task, Mapping) else task
    if name == "barlow_twins":
        return (
            "Barlow Twins learns features without labels, so accuracy is that of a classifier put on the frozen "
            "backbone afterwards. Test accuracy is that of a linear probe: a linear classifier fitted to the features "
            "of the training split and read on the test split. What the search maximises is the accuracy of a vote of "
            "nearest neighbours (kNN) among those features on the validation split.",
            "The column kNN gives the neighbours' accuracy on the test split, for the same confirm runs.",
        )
    return () if name == "classification" else (f"Accuracy is what the task {name} reports under that name.",)


def moment_text(iso: str) -> str:
    """An ISO 8601 time as `2025-03-04 05:06 UTC`; anything else as it is."""
    try:
        moment = datetime.fromisoformat(iso)
    except ValueError:
        return iso
    return f"{moment:%Y-%m-%d %H:%M} {moment.tzname() or ''}".rstrip()


def listed(words: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *head, last = words
    return f"{', '.join(head)} and {last}" if head else last


def _name(cell: CellSummary) -> str:
    return cell.cell.arm


def _score(cell: CellSummary) -> str:
    mean = f"{cell.mean_points:.1f}%"
    if cell.interval is None:
        return f"{mean} (one repeat, no interval)"
    interval = cell.interval
    return f"{mean} over {interval.n} repeats ({interval.level:.0%} interval {interval.low:.1f} to {interval.high:.1f})"


def _begin(text: str) -> str:
    return text[0].upper() + text[1:] if text.startswith(("no ", "for ", "its")) else text
