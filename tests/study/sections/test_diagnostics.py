"""The study file's switches are those of a trial, and reach it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from search_spaces.catalog import TASKS
from study.errors import StudyError
from study.jobs import Job, trial_config
from study.load import load_study
from study.plan import make_plan
from study.sections import DiagnosticsSpec
from trainables.config import DiagnosticsConfig


def test_defaults_are_those_of_a_trial() -> None:
    assert DiagnosticsSpec().model_dump() == dataclasses.asdict(DiagnosticsConfig())


def test_it_reaches_the_trial() -> None:
    spec = load_study(overrides=["diagnostics.curvature=5", "diagnostics.target_accuracy=0.9", "diagnostics.items=64"])
    plan = make_plan(spec)
    config = trial_config(spec, plan, Job(0, plan.cells[0], 0, "search", 0, {"base_lr": 1.0}, 3))
    assert config.diagnostics == DiagnosticsConfig(curvature=5, target_accuracy=0.9, items=64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("diagnostics.curvature=-1", "diagnostics.curvature.*greater than or equal to 0"),
        ("diagnostics.target_accuracy=1.2", "diagnostics.target_accuracy"),
        ("diagnostics.batchnorm=evil", "diagnostics.batchnorm.*'train' or 'eval'"),
        ("diagnostics.noise_batches=600", r"noise_batches \(600\) may be as many as items \(512\) at most"),
        ("diagnostics.curvatur=1", "curvatur"),
    ],
)
def test_refuses(change: str, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        load_study(overrides=[change])


def test_a_loss_that_couples_samples_has_no_noise_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_plain(TASKS), "barlow_twins", "")
    with pytest.raises(StudyError, match="noise_scale needs a loss that is a mean over samples"):
        load_study(overrides=["task=barlow_twins", "diagnostics.noise_scale=5"])


def _plain(table: Any) -> dict[str, str]:
    assert isinstance(table, dict)
    return table
