"""Full memory: known by what allocators really raise, told with what to change, and an answer to a calibration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from trainables import session as session_module
from trainables.calibration import measure
from trainables.config import DiagnosticsConfig, TrialConfig
from trainables.diagnostics import samples
from trainables.loop import Report, train
from trainables.memory import MemoryAdviceError, is_memory_error
from trainables.tasks import Classification

Make = Callable[..., TrialConfig]
TOO_MANY = 1 << 50


def fill(*_: object, **__: object) -> Any:
    return torch.empty(TOO_MANY)


@pytest.mark.parametrize("allocate", [fill, lambda: np.empty(TOO_MANY), lambda: bytearray(TOO_MANY)])
def test_what_allocators_of_the_host_raise(allocate: Callable[[], object]) -> None:
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        allocate()
    assert is_memory_error(caught.value)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
        (MemoryAdviceError("CUDA out of memory: lower diagnostics.items"), False),
    ],
)
def test_errors_that_mean_it(error: Exception, expected: bool) -> None:
    assert is_memory_error(error) is expected


def test_a_micro_batch_that_is_too_large(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Classification, "loss", fill)
    reports: list[Report] = []
    with pytest.raises(
        MemoryAdviceError, match=r"a micro-batch of 20 images .* cpu device \(.*\): lower train.micro_batch_size"
    ):
        train(make_config(), reports.append)
    assert reports == []
    found = measure(make_config(), 0.1)
    assert not found.fits
    assert found.device_memory_bytes > 0


def test_a_model_that_is_too_large(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "load_data", fill)
    with pytest.raises(
        MemoryAdviceError, match=r"model resnet8 with its data, synthetic, does not fit .*would not help"
    ):
        train(make_config(), lambda report: None)


def test_samples_of_a_diagnostic_keep_their_own_advice(make_config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "hessian_ends", fill)
    config = make_config(diagnostics=DiagnosticsConfig(curvature=1, items=8))
    with pytest.raises(MemoryAdviceError, match=r"^diagnostics.curvature on 8 samples .*: lower diagnostics.items$"):
        train(config, lambda report: None)
