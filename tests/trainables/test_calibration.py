"""A few steps of a trial, timed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import psutil
import pytest
import torch

from trainables import calibration
from trainables.calibration import MOST_STEPS, _memory_of, measure
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


@pytest.mark.parametrize(("workers", "share"), [(1, 40), (3, 14)])
def test_a_worker_is_timed_at_its_share(
    make_config: Callable[..., TrialConfig], monkeypatch: pytest.MonkeyPatch, workers: int, share: int
) -> None:
    images: list[int] = []
    monkeypatch.setattr(calibration, "_step", lambda session, order, micro_batches, step: images.append(len(order)))
    monkeypatch.setattr(calibration, "_evaluation_seconds", lambda session: 60.0)
    found = measure(make_config("sgd", workers=workers), 0.01)
    assert set(images) == {share}  # of the worker that has the most
    assert found.epoch_seconds == pytest.approx(3 * found.step_seconds + 60.0 / workers)


def test_micro_batches_of_one_are_slower(make_config: Callable[..., TrialConfig]) -> None:
    config = make_config("sgd")
    whole, single = (measure(dataclasses.replace(config, micro_batch_size=size), 0.3) for size in (40, 2))
    assert single.images_per_second < whole.images_per_second


def test_what_the_process_holds_is_the_trials_too() -> None:
    held = torch.ones(1 << 28)  # a GiB that is not available any more
    expected = psutil.virtual_memory().available + psutil.Process().memory_info().rss
    assert _memory_of(torch.device("cpu")) == pytest.approx(expected, abs=held.nbytes // 4)
