"""How fine a difference the test images and the number of repeats can show."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from study.analysis.intervals import LEVEL, NO_WIDTH_POINTS, Difference, paired_difference
from study.analysis.scores import RepeatScore


@dataclass(frozen=True)
class Resolution:
    """What one block's test split can show, in points."""

    items: int
    image_points: float  # one test image
    at_points: float | None  # the accuracy at which the standard error is taken: the highest mean of the block
    standard_error_points: float | None  # binomial, of one accuracy on `items` images
    half_widths: tuple[
        float, ...
    ]  # of the paired interval of each pair of cells, ascending; pairs without any spread left out
    level: float

    @property
    def difference_points(self) -> float | None:
        """The median half width over pairs of cells: a typical difference that would just be told from none."""
        return statistics.median(self.half_widths) if self.half_widths else None


def resolution(items: int, scores: Mapping[str, Sequence[RepeatScore]], level: float = LEVEL) -> Resolution:
    """What `items` test images and these repeats can show; `scores` holds each cell's repeats."""
    means = [statistics.fmean(score.points for score in cell) for cell in scores.values() if cell]
    best = max(means, default=None)
    error = None
    if best is not None and items:
        error = 100 * math.sqrt(best / 100 * (1 - best / 100) / items)
    pairs = (paired_by_repeat(a, b, level) for a, b in itertools.combinations(scores.values(), 2))
    half_widths = (pair.half_width for pair in pairs if pair is not None)
    return Resolution(
        items=items,
        image_points=100 / items if items else math.nan,
        at_points=best,
        standard_error_points=error,
        half_widths=tuple(sorted(width for width in half_widths if width > NO_WIDTH_POINTS)),
        level=level,
    )


def paired_by_repeat(
    first: Sequence[RepeatScore], second: Sequence[RepeatScore], level: float = LEVEL
) -> Difference | None:
    """The paired difference `first - second` over the repeats that both have; None for fewer than two."""
    a = {score.repeat: score.points for score in first}
    b = {score.repeat: score.points for score in second}
    shared = sorted(a.keys() & b.keys())
    return paired_difference([a[repeat] for repeat in shared], [b[repeat] for repeat in shared], level)
