import numpy as np
import pytest

from study.reporting.canvas import LOG_FROM, axes_of, log_axis, panel, span, wants_log


def test_sizes_are_in_pixels() -> None:
    figure, axes = axes_of(200, 100, left=20, right=10, top=5, bottom=25)
    assert (figure.get_size_inches() * 72).tolist() == pytest.approx([200, 100])
    box = axes.get_position()
    assert (box.x0, box.x1, box.y0, box.y1) == pytest.approx((0.1, 0.95, 0.25, 0.95))


def test_a_log_axis_has_plain_numbers() -> None:
    figure, axes = panel()
    axes.plot([1, 2], [0.01, 1000.0])
    log_axis(axes, "y")
    figure.draw_without_rendering()
    assert axes.get_yscale() == "log"
    assert axes.get_xscale() == "linear"
    assert "0.1" in [label.get_text() for label in axes.get_yticklabels()]


@pytest.mark.parametrize(
    ("values", "log"),
    [([1, LOG_FROM], True), ([1, LOG_FROM - 1], False), ([0, 100], False), ([-1, 100], False), ([], False)],
)
def test_what_wants_a_logarithmic_scale(values: list[float], log: bool) -> None:
    assert wants_log(np.array(values, dtype=float)) is log


def test_spans_have_air() -> None:
    assert span(np.array([])) == (0.0, 100.0)
    assert span(np.array([50.0])) == (49.5, 50.5)
    assert span(np.array([0.0, 100.0])) == (-6.0, 106.0)
