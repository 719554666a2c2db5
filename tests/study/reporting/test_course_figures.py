import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from study.reporting.course_figures import Scale, batch_size_figure, common_scale, courses_figure, target_figure
from study.reporting.palette import arm_colours

COLOURS = arm_colours(["lars", "tvlars"])


def courses(values: dict[str, list[tuple[float, float, float, float]]]) -> pd.DataFrame:
    rows = [(arm, *point) for arm, points in values.items() for point in points]
    return pd.DataFrame(rows, columns=["arm", "epoch", "median", "low", "high"])


def test_medians_are_lines_and_ranges_bands() -> None:
    frame = courses({"tvlars": [(1, 2, 1, 3), (2, 4, 2, 5)], "lars": [(1, 6, 5, 7), (2, 8, 7, 9)]})
    (axes,) = courses_figure(frame, COLOURS, "Sharpness", 10).axes
    assert [line.get_xydata().tolist() for line in axes.lines] == [[[1, 2], [2, 4]], [[1, 6], [2, 8]]]
    assert [to_hex(line.get_color()) for line in axes.lines] == [COLOURS["tvlars"], COLOURS["lars"]]
    (band, _) = axes.collections
    corners = {tuple(corner) for corner in band.get_paths()[0].vertices.tolist()}
    assert {(1, 1), (1, 3), (2, 2), (2, 5)} <= corners
    assert axes.get_ylabel() == "Sharpness"
    assert axes.get_xlim() == (0, pytest.approx(10.2))
    assert not courses_figure(frame, COLOURS, "", 10, bands=False).axes[0].collections


def test_the_scale_follows_the_values() -> None:
    wide = courses({"lars": [(1, 2, 1, 3), (2, 40, 2, 50)]})
    assert courses_figure(wide, COLOURS, "", 2).axes[0].get_yscale() == "log"
    assert courses_figure(wide, COLOURS, "", 2, scale=Scale(1, 10, log=False)).axes[0].get_yscale() == "linear"
    negative = courses({"lars": [(1, -2, -100, 3), (2, 40, 2, 50)]})
    assert courses_figure(negative, COLOURS, "", 2).axes[0].get_yscale() == "linear"


def test_a_single_measurement_is_a_dot() -> None:
    (axes,) = courses_figure(courses({"lars": [(12, 4, 2, 5)]}), COLOURS, "", 12).axes
    whisker, dot = axes.lines
    assert dot.get_marker() == "o"
    assert dot.get_xydata().tolist() == [[12, 4]]
    assert whisker.get_xydata().tolist() == [[12, 2], [12, 5]]


def test_a_common_scale() -> None:
    assert common_scale(courses({})) is None
    wide = common_scale(courses({"lars": [(1, 3, 1, 100)]}))
    assert wide is not None
    assert (wide.low, wide.high, wide.log) == (pytest.approx(1 / 1.2), pytest.approx(120), True)
    # The air below does not make a logarithmic scale of it.
    assert common_scale(courses({"lars": [(1, 10, 2.4, 44)]})) == Scale(
        pytest.approx(0.32), pytest.approx(46.08), False
    )
    flat = common_scale(courses({"lars": [(1, 0, 0, 0)]}))
    assert flat is not None
    assert flat.low < 0 < flat.high
    figure = courses_figure(courses({"lars": [(1, 3, 1, 100), (2, 3, 1, 9)]}), COLOURS, "", 2, scale=wide)
    assert figure.axes[0].get_ylim() == pytest.approx((1 / 1.2, 120))


def test_runs_are_dots_and_the_guide_has_its_slope() -> None:
    frame = pd.DataFrame(
        [("lars", 32, 0, 1.0), ("lars", 32, math.nan, 2.0), ("lars", 512, math.nan, 0.1), ("lars", 512, 1, 0.2)],
        columns=["arm", "batch_size", "run", "value"],
    )
    (axes,) = batch_size_figure(frame, COLOURS, "Variance", (32, 2.0, -1.0)).axes
    dots, line, guide = axes.lines
    assert dots.get_xydata().tolist() == [[32, 1.0], [512, 0.2]]
    assert line.get_xydata().tolist() == [[32, 2.0], [512, 0.1]]
    (x0, y0), (x1, y1) = guide.get_xydata()
    assert x0 < 32 < 512 < x1
    assert x0 * y0 == pytest.approx(64)
    assert x1 * y1 == pytest.approx(64)
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["32", "512"]


def test_censored_runs_are_open_arrows_at_their_length() -> None:
    frame = pd.DataFrame(
        [("lars", 7, True), ("lars", 7, True), ("lars", 20, False), ("lars", math.inf, False), ("tvlars", 3, True)],
        columns=["arm", "epochs", "reached"],
    )
    (axes,) = target_figure(frame, COLOURS, 20).axes
    dots = [line.get_xydata() for line in axes.lines if line.get_marker() == "o"]
    arrows = [line for line in axes.lines if line.get_marker() == ">"]
    assert dots[0][:, 0].tolist() == [7, 7]
    assert len(np.unique(dots[0][:, 1])) == 2  # equal ones are both seen
    assert arrows[0].get_xdata().tolist() == [20, 20]
    assert arrows[0].get_markerfacecolor() == "none"
    assert [text.get_text() for text in axes.texts] == ["lars: 2 of 4", "tvlars: 1 of 1"]
