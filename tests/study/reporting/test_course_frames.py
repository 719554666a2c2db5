import math

import numpy as np

from study.analysis.courses import Course
from study.analysis.noise import NoisePoint
from study.analysis.targets import Time, TimeToTarget
from study.reporting.course_frames import batch_size_frame, course_frame, scale_course, target_frame


def test_a_row_per_arm_and_point() -> None:
    course = Course(np.array([1.0, 2.0]), np.array([3.0, 4.0]), np.array([2.0, 2.0]), np.array([5.0, 6.0]), 3)
    frame = course_frame({"lars": course})
    assert list(frame.columns) == ["arm", "epoch", "median", "low", "high"]
    assert frame.to_numpy().tolist() == [["lars", 1, 3, 2, 5], ["lars", 2, 4, 2, 6]]


def test_noise_scales_with_the_range_of_the_runs() -> None:
    points = (
        NoisePoint(4, 3, 5.0, 10.0, (8.0, 12.0), (1.0, 2.0)),
        NoisePoint(8, 3, 5.0, None, (), (1.0,)),
        NoisePoint(12, 2, 5.0, 30.0, (), (1.0,)),
    )
    course = scale_course(points)
    assert course is not None
    assert course.epochs.tolist() == [4, 12]
    assert course.median.tolist() == [10, 30]
    assert course.low.tolist() == [8, 30]
    assert course.high.tolist() == [12, 30]
    assert course.runs == 3
    assert scale_course(points[1:2]) is None


def test_runs_and_the_value_over_them_by_batch_size() -> None:
    points = {
        ("lars", 64): NoisePoint(4, 2, 6.4, 10.0, (8.0, 12.0), (0.08, 0.12)),
        ("lars", 128): NoisePoint(4, 1, 6.4, None, (), (0.05,)),
    }
    variance = batch_size_frame(points, "of_batch")
    over = variance[variance["run"].isna()]
    assert over[["batch_size", "value"]].to_numpy().tolist() == [[64, 0.1], [128, 0.05]]
    assert variance[variance["run"].notna()]["value"].tolist() == [0.08, 0.12, 0.05]
    scale = batch_size_frame(points, "scale")
    assert scale[scale["run"].isna()]["value"].tolist() == [10.0]


def test_targets() -> None:
    times = {"epochs": (Time(7.0, True), Time(math.inf, False))}
    frame = target_frame({"lars": TimeToTarget(2, 1, 1, times)})
    assert frame.to_numpy().tolist() == [["lars", 7.0, True], ["lars", math.inf, False]]
