"""Intervals over repeats. The unit of inference is the repeat: one independent search with its confirm runs.

Accuracies are in points (percent) in every result; counts of correct items go in, so that 100% stays finite on the
logit scale. Only `scipy.special` is imported: `scipy.stats` would cost a second at start.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv, expit, logit, stdtrit

LEVEL = 0.95
NO_WIDTH_POINTS = 1e-6  # what rounding leaves of a spread of zero


@dataclass(frozen=True)
class Interval:
    """A t interval of an accuracy over repeats, in points."""

    mean: float  # arithmetic mean of the repeats
    centre: float  # mean on the logit scale, taken back: what the interval is about; equals `mean` but for skew
    low: float
    high: float
    n: int  # repeats
    level: float

    @property
    def has_no_width(self) -> bool:
        """All repeats scored the same: the spread of so few cannot be learnt from them."""
        return self.high - self.low < NO_WIDTH_POINTS

    def overlaps(self, other: Interval) -> bool:
        return self.low <= other.high and other.low <= self.high


@dataclass(frozen=True)
class Rate:
    """A Clopper-Pearson interval of a proportion; `rate`, `low` and `high` lie in [0, 1]."""

    events: int
    trials: int
    rate: float
    low: float
    high: float
    level: float


@dataclass(frozen=True)
class Difference:
    """A paired t interval of `first - second` over repeats, in points."""

    mean: float
    low: float
    high: float
    n: int  # pairs
    level: float
    correlation: float | None  # between the arms over repeats; None where one of them never varies

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


def t_interval_accuracy(
    correct: Sequence[float], items: Sequence[float] | float, level: float = LEVEL
) -> Interval | None:
    """A t interval over repeats on logit accuracy.

    Each repeat's accuracy is taken as logit((k + 0.5) / (n + 1)) (the empirical logit, Cox 1970), so that all and none
    correct are finite; the ends are taken back through the same correction and lie in [0, 100].

    Args:
        correct: correctly classified items of each repeat, (R,); a mean over confirm seeds need not be whole.
        items: test items of each repeat, (R,), or one number for all.
        level: in (0, 1).

    Returns:
        None for fewer than two repeats: one repeat has no spread to learn from.
    """
    _check_level(level)
    k = np.asarray(correct, dtype=np.float64)
    n = np.broadcast_to(np.asarray(items, dtype=np.float64), k.shape)
    if k.ndim != 1 or np.any(n <= 0) or np.any(k < 0) or np.any(k > n):
        raise ValueError(f"0 <= correct <= items and items > 0 must hold, but got {correct} of {items}")
    if k.size < 2:
        return None
    z = logit((k + 0.5) / (n + 1))
    centre, half = _t_half_width(z, level)
    size = float(n.mean())

    def points(value: float) -> float:
        return 100 * min(max((float(expit(value)) * (size + 1) - 0.5) / size, 0.0), 1.0)

    return Interval(
        mean=100 * float(np.mean(k / n)),
        centre=points(centre),
        low=points(centre - half),
        high=points(centre + half),
        n=int(k.size),
        level=level,
    )


def clopper_pearson(events: int, trials: int, level: float = LEVEL) -> Rate | None:
    """The exact interval of a proportion (Clopper and Pearson 1934); None where nothing was tried."""
    _check_level(level)
    if not 0 <= events <= trials:
        raise ValueError(f"0 <= events <= trials must hold, but got events={events}, trials={trials}")
    if trials == 0:
        return None
    tail = (1 - level) / 2
    low = float(betaincinv(events, trials - events + 1, tail)) if events else 0.0
    high = float(betaincinv(events + 1, trials - events, 1 - tail)) if events < trials else 1.0
    return Rate(events, trials, events / trials, low, high, level)


def paired_difference(first: Sequence[float], second: Sequence[float], level: float = LEVEL) -> Difference | None:
    """A t interval of the mean of `first - second`, both in points, (R,), the same repeats in the same order.

    Returns:
        None for fewer than two pairs.
    """
    _check_level(level)
    if len(first) != len(second):
        raise ValueError(f"a pair needs both sides, but got {len(first)} and {len(second)} repeats")
    if len(first) < 2:
        return None
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    mean, half = _t_half_width(a - b, level)
    varies = bool(np.ptp(a) > 0 and np.ptp(b) > 0)
    return Difference(
        mean=mean,
        low=mean - half,
        high=mean + half,
        n=len(first),
        level=level,
        correlation=float(np.corrcoef(a, b)[0, 1]) if varies else None,
    )


def _t_half_width(values: np.ndarray, level: float) -> tuple[float, float]:
    n = values.size
    quantile = float(stdtrit(n - 1, (1 + level) / 2))
    return float(values.mean()), quantile * float(values.std(ddof=1)) / math.sqrt(n)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"0 < level < 1 must hold, but got level={level}")
