import math

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, logit

from study.analysis.intervals import clopper_pearson, paired_difference, t_interval_accuracy


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_t_interval_is_scipy_t_on_the_empirical_logit(level: float) -> None:
    correct, items = [340, 351, 329, 346], 360
    z = logit((np.array(correct) + 0.5) / (items + 1))
    low, high = stats.t.interval(level, len(z) - 1, loc=z.mean(), scale=stats.sem(z))
    found = t_interval_accuracy(correct, items, level)
    assert found is not None
    assert found.n == 4
    assert found.level == level
    assert found.mean == pytest.approx(100 * np.mean(correct) / items)
    assert found.low == pytest.approx(100 * (expit(low) * 361 - 0.5) / 360, abs=1e-9)
    assert found.high == pytest.approx(100 * (expit(high) * 361 - 0.5) / 360, abs=1e-9)
    assert found.low < found.centre < found.high


def test_perfect_and_empty_repeats_stay_finite_and_in_range() -> None:
    found = t_interval_accuracy([360, 0, 360], 360)
    assert found is not None
    assert all(math.isfinite(x) for x in (found.mean, found.centre, found.low, found.high))
    assert 0 <= found.low < found.high <= 100


def test_identical_repeats_have_no_width_and_say_so() -> None:
    found = t_interval_accuracy([360, 360, 360], 360)
    assert found is not None
    assert found.has_no_width
    assert found.low == pytest.approx(100)
    varied = t_interval_accuracy([359, 360, 360], 360)
    assert varied is not None
    assert not varied.has_no_width


@pytest.mark.parametrize("correct", [[], [350]])
def test_fewer_than_two_repeats_give_no_interval(correct: list[int]) -> None:
    assert t_interval_accuracy(correct, 360) is None


def test_a_count_beyond_the_items_is_refused() -> None:
    with pytest.raises(ValueError, match="0 <= correct <= items"):
        t_interval_accuracy([361, 300], 360)
    with pytest.raises(ValueError, match="0 < level < 1"):
        t_interval_accuracy([3, 4], 5, level=95)


def test_t_interval_covers_at_its_level() -> None:
    """Repeats drawn around a logit-normal accuracy: the centre's interval covers it in about 95% of studies."""
    rng = np.random.default_rng(0)
    truth, draws, hits = 3.0, 400, 0
    for _ in range(draws):
        correct = rng.binomial(2000, expit(rng.normal(truth, 0.4, size=5)))
        found = t_interval_accuracy(list(correct), 2000)
        assert found is not None
        hits += found.low <= 100 * expit(truth) <= found.high
    assert 0.91 <= hits / draws <= 0.985


@pytest.mark.parametrize(("events", "trials"), [(0, 18), (3, 18), (18, 18), (1, 1), (7, 1000)])
def test_clopper_pearson_agrees_with_scipy(events: int, trials: int) -> None:
    exact = stats.binomtest(events, trials).proportion_ci(0.95, method="exact")
    found = clopper_pearson(events, trials)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=1e-9)
    assert found.rate == events / trials


def test_clopper_pearson_with_nothing_tried_or_nonsense() -> None:
    assert clopper_pearson(0, 0) is None
    with pytest.raises(ValueError, match="events <= trials"):
        clopper_pearson(3, 2)


def test_paired_difference_is_scipy_paired_t() -> None:
    first, second = [97.2, 96.1, 98.0, 95.5], [95.0, 95.8, 96.9, 96.0]
    exact = stats.ttest_rel(first, second).confidence_interval(0.9)
    found = paired_difference(first, second, 0.9)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high))
    assert found.mean == pytest.approx(np.mean(first) - np.mean(second))
    assert found.correlation == pytest.approx(stats.pearsonr(first, second).statistic)
    assert found.half_width == pytest.approx((exact.high - exact.low) / 2)


def test_paired_difference_needs_pairs() -> None:
    assert paired_difference([97.0], [96.0]) is None
    with pytest.raises(ValueError, match="both sides"):
        paired_difference([1.0, 2.0], [1.0])
    constant = paired_difference([50.0, 50.0], [40.0, 44.0])
    assert constant is not None
    assert constant.correlation is None
