import numpy as np
import pytest

from study.analysis.courses import MOST_COLUMNS, MOST_POINTS, MOST_ROWS, layer_course, layer_map, report_course
from study.analysis.traces import Trace


def test_a_report_key_over_runs_of_different_lengths(make_trace) -> None:
    runs = [
        make_trace({"curvature/largest": {4: 10.0, 8: 30.0, 10: 50.0}}),
        make_trace({"curvature/largest": {4: 20.0}}, epochs=5),
        make_trace(),
    ]
    course = report_course(runs, "curvature/largest")
    assert course is not None
    assert course.epochs.tolist() == [4, 8, 10]
    assert course.median.tolist() == [15, 30, 50]
    assert course.low.tolist() == [10, 30, 50]
    assert course.high.tolist() == [20, 30, 50]
    assert course.runs == 2
    assert course.final == (50, 50, 50)
    assert report_course(runs, "curvature/nothing") is None
    assert report_course([], "curvature/largest") is None


def test_layers_are_pooled_over_runs_without_tensors_of_one_dimension(make_trace, make_layers) -> None:
    rng = np.random.default_rng(0)
    lwn, lgn = rng.uniform(1, 2, (2, 6, 4)), rng.uniform(0.1, 1, (2, 6, 4))
    lgn[:, :, -1] = 1e-9  # the bias: a ratio that would show at once
    runs = [make_trace(epochs=3, per_epoch=2, layers=make_layers(lwn[i], lgn[i], per_epoch=2)) for i in range(2)]
    course = layer_course(runs, "lnr")
    assert course is not None
    expected = (lwn[:, :, :3].astype(np.float32) / lgn[:, :, :3].astype(np.float32)).transpose(1, 0, 2).reshape(6, -1)
    assert course.epochs.tolist() == pytest.approx([0.5, 1, 1.5, 2, 2.5, 3])
    np.testing.assert_allclose(course.median, np.median(expected, axis=1), rtol=1e-6)
    np.testing.assert_allclose(course.low, expected.min(axis=1), rtol=1e-6)
    np.testing.assert_allclose(course.high, expected.max(axis=1), rtol=1e-6)
    assert course.runs == 2
    weights = layer_course(runs, "lwn")
    assert weights is not None
    np.testing.assert_allclose(weights.high, lwn[:, :, :3].max(axis=(0, 2)), rtol=1e-6)


def test_what_is_no_number_is_left_out(make_trace, make_layers) -> None:
    layers = make_layers([[1, 2, 9], [1, np.nan, 9], [np.nan, np.nan, 9]], [[1, 0, 9], [0.5, 1, 9], [1, 1, 9]])
    course = layer_course([make_trace(epochs=3, layers=layers)], "lnr")
    assert course is not None
    assert course.epochs.tolist() == [1, 2]
    assert course.median.tolist() == [1, 2]
    nothing = make_layers([[np.nan, 9.0]], [[1.0, 9.0]])
    assert layer_course([make_trace(epochs=1, layers=nothing)], "lnr") is None
    assert layer_course([Trace()], "lnr") is None


def test_runs_with_other_batch_sizes_meet_at_the_same_epoch(make_trace, make_layers) -> None:
    slow = make_trace(epochs=4, per_epoch=1, layers=make_layers([[1, 9]] * 4, [[1, 9]] * 4))
    fast = make_trace(epochs=4, per_epoch=3, layers=make_layers([[3, 9]] * 12, [[1, 9]] * 12, per_epoch=3))
    course = layer_course([slow, fast], "lnr")
    assert course is not None
    assert course.epochs[-1] == pytest.approx(4)
    assert course.low.min() == 1
    assert course.high.max() == 3
    assert len(course.epochs) == 12
    assert course.median[-1] == 2  # the last records of both


def test_long_runs_have_few_points_and_many_layers_few_rows(make_trace, make_layers) -> None:
    values = np.ones((1000, 101)) * np.arange(1, 1001)[:, None]
    trace = make_trace(epochs=100, per_epoch=10, layers=make_layers(values, np.ones_like(values), per_epoch=10))
    course = layer_course([trace], "lnr")
    assert course is not None
    assert len(course.epochs) == MOST_POINTS
    assert (course.low[0], course.high[-1]) == (1, 1000)
    assert np.all(np.diff(course.median) > 0)
    found = layer_map(trace)
    assert found is not None
    assert found.values.shape == (MOST_ROWS, MOST_COLUMNS)
    assert (found.names[0], found.names[-1]) == ("layer0.weight", "layer99.weight")
    assert found.epochs == 100


def test_a_map_has_each_layer_along_training(make_trace, make_layers) -> None:
    layers = make_layers([[1, 2, 9], [4, 6, 9]], [[1, 0, 9], [2, 2, 9]])
    found = layer_map(make_trace(epochs=2, layers=layers))
    assert found is not None
    assert found.names == ("layer0.weight", "layer1.weight")
    np.testing.assert_array_equal(found.values, [[1, 2], [np.nan, 3]])
    assert layer_map(Trace()) is None
    single = layer_map(make_trace(epochs=1, layers=make_layers([[1, 9]], [[2, 9]])))
    assert single is not None
    assert single.values.tolist() == [[0.5]]
