"""Calibration: real measurements of a real trial, the choice of a micro-batch, and the plan that takes it up."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from search_spaces import Choice, Float, Int
from study import calibration
from study.calibration import (
    Calibration,
    CellCost,
    calibrate,
    middle,
    read_calibration,
    with_micro_batches,
    write_calibration,
)
from study.errors import StudyError
from study.home import StudyHome
from study.jobs import Job, trial_config
from study.plan import make_plan
from study.records import SEARCH
from study.spec import Spec
from trainables.config import TrialConfig

MakeSpec = Callable[..., Spec]
GIB = 1 << 30


def quiet(text: str) -> None:
    pass


@pytest.fixture
def memory_grows(monkeypatch: pytest.MonkeyPatch) -> list[TrialConfig]:
    """A device of 10 GiB where an image of a micro-batch takes 0.1 GiB, twice that for lars. Records the asking."""
    asked: list[TrialConfig] = []

    def fake(config: TrialConfig, seconds: float) -> Mapping[str, Any]:
        asked.append(config)
        needed = config.micro_batch_size * GIB // (5 if config.arm == "lars" else 10)
        answer = {
            "fits": needed <= 10 * GIB,
            "device": "a GPU",
            "memory_bytes": needed,
            "device_memory_bytes": 10 * GIB,
        }
        return {**answer, "epoch_seconds": 2.0, "images_per_second": 100.0}

    monkeypatch.setattr(calibration, "run_measurement", fake)
    return asked


def test_a_block_takes_the_largest_that_fits_every_arm(make_spec: MakeSpec, memory_grows: list[TrialConfig]) -> None:
    spec = make_spec(arms=["sgd", "lars"], train={"epochs": 9, "batch_size": [64, 128]})
    plan = make_plan(spec)
    found = calibrate(spec, plan, seconds=1.0, device="cpu", say=quiet)
    # sgd fits with 64 images (6.4 of 8.5 GiB), lars with 32 alone: then both are timed at 32
    assert found.micro_batches == {"B64": 32, "B128": 32}
    asked = [(config.arm, config.micro_batch_size) for config in memory_grows[:4]]
    assert asked == [("sgd", 64), ("lars", 64), ("sgd", 32), ("lars", 32)]
    cost = found.cells[0]
    assert (cost.cell, cost.micro_batch_size, cost.trial_seconds) == ("sgd/B64", 32, 18.0)
    trials = spec.search.trials + spec.confirm.seeds
    assert cost.most_device_hours == pytest.approx(2.0 * 9 * trials * spec.search.repeats / 3600)
    assert found.most_device_hours == pytest.approx(4 * cost.most_device_hours)


def test_a_given_micro_batch_that_does_not_fit_is_refused(make_spec: MakeSpec, memory_grows: list[TrialConfig]) -> None:
    spec = make_spec(arms=["lars"], train={"epochs": 9, "batch_size": 128, "micro_batch_size": 100})
    with pytest.raises(StudyError, match="micro_batch_size 100 does not fit into memory for lars/B128; lower it"):
        calibrate(spec, make_plan(spec), seconds=1.0, device="cpu", say=quiet)


def test_trials_that_share_a_gpu_have_their_fraction_each(make_spec: MakeSpec, memory_grows: list[TrialConfig]) -> None:
    spec = make_spec(
        arms=["sgd"], train={"epochs": 9, "batch_size": 64}, resources={"gpus_per_worker": 0.5, "workers": 1}
    )
    found = calibrate(spec, make_plan(spec), seconds=1.0, device="cuda", say=quiet)
    assert found.micro_batches == {"B64": 32}  # 3.2 of 4.25 GiB; 64 images would take 6.4


@pytest.mark.parametrize(("gpus", "expected"), [(0, "cpu"), ("auto", "auto"), (1, "auto")])
def test_a_study_without_gpus_is_measured_on_the_cpu(
    make_spec: MakeSpec, memory_grows: list[TrialConfig], gpus: object, expected: str
) -> None:
    spec = make_spec(arms=["sgd"], resources={"gpus_per_worker": gpus})
    calibrate(spec, make_plan(spec), seconds=1.0, device="auto", say=quiet)
    assert {config.device for config in memory_grows} == {expected}


def test_a_searched_batch_size_is_measured_at_its_largest(make_spec: MakeSpec, memory_grows: list[TrialConfig]) -> None:
    spec = make_spec(
        arms=["sgd"], train={"epochs": 9, "batch_size": 128}, space={"all": {"batch_size": {"values": [16, 128, 32]}}}
    )
    found = calibrate(spec, make_plan(spec), seconds=1.0, device="cpu", say=quiet)
    assert [(config.batch_size, config.micro_batch_size) for config in memory_grows] == [(128, 128), (128, 64)]
    assert list(found.micro_batches.values()) == [64]


def test_it_is_kept_for_this_very_study(make_spec: MakeSpec, memory_grows: list[TrialConfig], tmp_path: Path) -> None:
    spec, place = make_spec(arms=["lars"]), StudyHome(tmp_path, "study")
    assert read_calibration(place, spec) is None
    place.create()
    found = calibrate(spec, make_plan(spec), seconds=1.0, device="cpu", say=quiet)
    write_calibration(place, spec, found)
    assert read_calibration(place, spec) == found
    assert read_calibration(place, make_spec(arms=["sgd"])) is None
    place.calibration.write_text("{")
    assert read_calibration(place, spec) is None


def test_the_plan_takes_it_up(make_spec: MakeSpec) -> None:
    plan = with_micro_batches(make_plan(make_spec()), {"B64": 16})
    assert plan.blocks[0].micro_batch_size == 16
    assert {cell.block.micro_batch_size for cell in plan.cells} == {16}
    assert all(cell.block is plan.blocks[0] for cell in plan.cells)


@pytest.mark.parametrize(("hours", "text"), [(1047.0, "1,047.00"), (0.5, "0.50"), (0.0026, "0.003")])
def test_hours_of_a_small_study_are_not_nothing(hours: float, text: str) -> None:
    cost = CellCost("lars/B64", 64, 1.0, 1.0, 1, 1.0, hours)
    assert Calibration("cpu", GIB, {}, (cost,)).hours_text == text


def test_middles() -> None:
    assert middle(Float(low=1.0, high=100.0, log=True)) == pytest.approx(10.0)
    assert middle(Float(low=1.0, high=4.0)) == 2.5
    assert middle(Int(low=2, high=32, log=True)) == 8
    assert middle(Choice(values=("a", "b"))) == "a"


def test_the_command_measures_and_the_study_says_so(tmp_path: Path) -> None:
    study = ["digits-warmup", "arms=[lars]", "claims=[]", "name=short", "--home", str(tmp_path)]

    def run(module: str, *more: str) -> str:
        command = [sys.executable, "-m", module, *study, *more]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
        return done.stdout

    text = run("study.calibrate", "--seconds", "0.2")
    assert "lars/B1077" in text
    assert "device-hours if no trial stops early" in text
    assert "device-hours of cpu" in run("study.run", "--dry-run")


def test_a_trial_that_cannot_run_says_why(make_spec: MakeSpec) -> None:
    spec = make_spec(arms=["lars"])
    plan = make_plan(spec)
    params = {name: middle(dimension) for name, dimension in plan.cells[0].dimensions.items()}
    config = trial_config(spec, plan, Job(0, plan.cells[0], 0, SEARCH, 0, params, seed=0))
    with pytest.raises(StudyError, match=r"^a trial of lars cannot run: model must be one of .* got 'resnet9'"):
        calibration.run_measurement(dataclasses.replace(config, model="resnet9"), 0.1)
