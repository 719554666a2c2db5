"""Small trials that every test of the loop can afford."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from trainables.config import DataConfig, TrialConfig
from trainables.loop import TIMING_KEYS, Report

LAYER_WISE = {"weight_decay": 1e-4, "momentum": 0.9, "trust_coefficient": 1e-3}
HYPERPARAMETERS: Mapping[str, Mapping[str, float]] = {
    "lars_warmup": {"base_lr": 20.0, "warmup_epochs": 1.0, **LAYER_WISE},
    "lars": {"base_lr": 20.0, **LAYER_WISE},
    "clars": {"base_lr": 20.0, **LAYER_WISE, "trust_coefficient": 1e-2},
    "clars_warmup": {"base_lr": 20.0, "warmup_epochs": 1.0, **LAYER_WISE, "trust_coefficient": 1e-2},
    "tvlars": {"base_lr": 20.0, "decay_epochs": 2.0, "delay_epochs": 1.0, **LAYER_WISE},
    "lamb_warmup": {"base_lr": 0.05, "warmup_epochs": 1.0, "weight_decay": 1e-2},
    "sgd_warmup": {"base_lr": 0.3, "warmup_epochs": 1.0, "weight_decay": 1e-4, "momentum": 0.9},
    "sgd": {"base_lr": 0.3, "weight_decay": 1e-4, "momentum": 0.9},
    "adamw": {"base_lr": 0.02, "weight_decay": 1e-2},
}


@pytest.fixture(scope="session")
def make_config() -> Callable[..., TrialConfig]:
    """A trial of 3 steps an epoch, each of two micro-batches, on 120 synthetic training images."""

    def make(arm: str = "sgd_warmup", **changes: Any) -> TrialConfig:
        fields: dict[str, Any] = {
            "hyperparameters": HYPERPARAMETERS[arm],
            "data": DataConfig("synthetic", options={"items": 200, "noise": 2.0}),
            "model": "resnet8",
            "task": "classification",
            "epochs": 4,
            "batch_size": 40,
            "micro_batch_size": 20,
            "seed": 3,
            "augmentation": "shift",
        }
        return TrialConfig(arm=arm, **{**fields, **changes})

    return make


@pytest.fixture(scope="session")
def final_state() -> Callable[[Path], dict[str, Any]]:
    """Everything in the newest checkpoint of a folder, without what a clock measured."""

    def read(folder: Path) -> dict[str, Any]:
        newest = max(folder.glob("epoch-*.pt"))
        content: dict[str, Any] = torch.load(newest, weights_only=True)
        content["state"]["history"] = [_untimed(report) for report in content["state"]["history"]]
        return content

    return read


@pytest.fixture(scope="session")
def untimed() -> Callable[[Report], Report]:
    """A report without what a clock measured."""
    return _untimed


@pytest.fixture(scope="session")
def assert_same() -> Callable[[object, object], None]:
    """Equality bit for bit of nested containers with tensors."""
    return _assert_same


@pytest.fixture
def write_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """From source to the name of a module of the user's that holds it; forgotten after the test."""
    monkeypatch.syspath_prepend(tmp_path)
    written: list[str] = []

    def write(source: str) -> str:
        # a name of its own: an import is remembered
        name = f"own_{tmp_path.name}_{len(written)}"
        (tmp_path / f"{name}.py").write_text(source, encoding="utf-8")
        written.append(name)
        return name

    yield write
    for name in written:
        sys.modules.pop(name, None)


def _untimed(report: Report) -> Report:
    return {key: value for key, value in report.items() if key not in TIMING_KEYS}


def _assert_same(one: object, other: object, where: str = "") -> None:
    assert type(one) is type(other), where
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        assert one.dtype == other.dtype, where
        assert torch.equal(one, other), where
    elif isinstance(one, dict) and isinstance(other, dict):
        assert list(one) == list(other), where
        for key in one:
            _assert_same(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        assert len(one) == len(other), where
        for index, (left, right) in enumerate(zip(one, other, strict=True)):
            _assert_same(left, right, f"{where}/{index}")
    else:
        assert one == other, where
