import numpy as np
import pytest
from scipy import stats

from study.analysis.noise import log_slope, noise_points
from study.analysis.traces import Trace


def measured(variance: float, square: float, batch_size: int = 64) -> dict[str, float]:
    found = {
        "noise/variance": variance,
        "noise/gradient_squared": square,
        "noise/batch_variance": variance / batch_size,
    }
    return found | ({"noise/scale": variance / square} if square > 0 else {})


def test_moments_are_averaged_before_the_ratio() -> None:
    epochs = {4: [(8.0, 2.0), (2.0, 1.0)], 8: [(6.0, 1.0), (4.0, -0.5)]}
    runs = [
        Trace(tuple({"epoch": float(epoch), **measured(*epochs[epoch][run])} for epoch in epochs)) for run in (0, 1)
    ]
    early, late = noise_points(runs)
    assert (early.epoch, early.runs, early.variance) == (4, 2, 5.0)
    assert early.scale == pytest.approx(5.0 / 1.5)  # not the mean of 4 and 2
    assert early.scales == (2.0, 4.0)
    assert early.of_batch == (2 / 64, 8 / 64)
    assert late.scale == pytest.approx(5.0 / 0.25)
    assert late.scales == (6.0,)


def test_where_noise_prevails_there_is_no_scale() -> None:
    (point,) = noise_points([Trace(({"epoch": 1.0, **measured(3.0, -1.0)},))])
    assert point.scale is None
    assert point.variance == 3.0
    assert noise_points([Trace(({"epoch": 1.0},)), Trace()]) == ()


def test_the_slope_is_that_of_a_regression_on_logarithms() -> None:
    rng = np.random.default_rng(1)
    sizes = np.array([32.0, 128.0, 512.0, 2048.0])
    values = 7 / sizes * np.exp(rng.normal(0, 0.3, 4))
    assert log_slope(sizes, values) == pytest.approx(stats.linregress(np.log(sizes), np.log(values)).slope)
    assert log_slope(sizes, 5 / sizes) == pytest.approx(-1)
    assert log_slope([32.0, 32.0], [1.0, 2.0]) is None
    assert log_slope([32.0, 64.0], [1.0, -2.0]) is None
