import itertools

import numpy as np
import pytest
from scipy import stats

from study.analysis.resolution import paired_by_repeat, resolution
from study.analysis.scores import RepeatScore
from study.analysis.summary import summarize


def score(repeat: int, correct: float) -> RepeatScore:
    return RepeatScore(repeat, correct, 360, 1, 0)


def test_image_and_standard_error() -> None:
    found = resolution(360, {"a": [score(0, 324), score(1, 324)], "b": [score(0, 180), score(1, 190)]})
    assert found.image_points == pytest.approx(1 / 3.6)
    assert found.at_points == pytest.approx(90)
    assert found.standard_error_points == pytest.approx(100 * np.sqrt(0.9 * 0.1 / 360))


def test_half_widths_are_those_of_the_paired_t_over_all_pairs(make_record) -> None:
    summary = summarize(make_record())
    points = [[s.points for s in cell.scores] for cell in summary.cells]
    expected = sorted(
        (interval.high - interval.low) / 2
        for interval in (stats.ttest_rel(a, b).confidence_interval() for a, b in itertools.combinations(points, 2))
    )
    found = summary.blocks[0].resolution
    assert found.half_widths == pytest.approx(expected)
    assert found.difference_points == pytest.approx(np.median(expected))


def test_pairs_match_by_repeat_and_leave_out_what_one_side_lacks() -> None:
    first, second = [score(0, 300), score(1, 310), score(2, 320)], [score(2, 300), score(0, 300)]
    found = paired_by_repeat(first, second)
    assert found is not None
    assert found.n == 2
    assert found.mean == pytest.approx(100 * (0 + 20) / 360 / 2)
    assert paired_by_repeat(first, second[:1]) is None


def test_nothing_to_resolve() -> None:
    found = resolution(360, {"a": [], "b": []})
    assert (found.at_points, found.standard_error_points, found.difference_points) == (None, None, None)
    tied = resolution(360, {"a": [score(0, 36), score(1, 36)], "b": [score(0, 36), score(1, 36)]})
    assert tied.difference_points is None
