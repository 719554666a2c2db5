"""A few steps of a trial, timed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from trainables.calibration import MOST_STEPS, measure
from trainables.config import TrialConfig


@pytest.mark.parametrize("workers", [1, 2])
def test_a_measurement_is_of_the_trial(make_config: Callable[..., TrialConfig], workers: int) -> None:
    found = measure(make_config("clars", workers=workers), 0.2)
    assert found.fits
    assert found.device == "cpu"
    assert found.images_per_second == pytest.approx(40 / found.step_seconds)
    assert found.epoch_seconds > 3 * found.step_seconds  # 120 images: three steps, then the evaluation
    assert 50 << 20 < found.memory_bytes < found.device_memory_bytes
    assert 1 <= found.steps <= MOST_STEPS


def test_micro_batches_of_one_are_slower(make_config: Callable[..., TrialConfig]) -> None:
    config = make_config("sgd")
    whole, single = (measure(dataclasses.replace(config, micro_batch_size=size), 0.3) for size in (40, 2))
    assert single.images_per_second < whole.images_per_second
