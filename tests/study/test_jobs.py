"""From a job to what the training loop takes."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from search_spaces import Value
from study.jobs import Job, split_seed, trial_config
from study.plan import make_plan
from study.records import CONFIRM, SEARCH
from study.spec import Spec
from trainables.config import TrialConfig

SpecFactory = Callable[..., Spec]


def _job(spec: Spec, params: dict[str, Value] | None = None, phase: str = SEARCH, repeat: int = 1) -> Job:
    cell = make_plan(spec).cells[0]
    return Job(17, cell, repeat, phase, 2, {"base_lr": 1.5, "weight_decay": 1e-4, **(params or {})}, 12345)


def test_names(make_spec: SpecFactory) -> None:
    spec = make_spec()
    assert _job(spec).key == "lars/B64/r1/t2"
    assert _job(spec, phase=CONFIRM).key == "lars/B64/r1/c2"
    assert _job(spec).folder == "lars_B64_r1_t2"


def test_config_says_all(make_spec: SpecFactory) -> None:
    spec = make_spec(
        data={"validation_fraction": 0.1, "test_fraction": 0.3},
        train={
            "epochs": 7,
            "batch_size": 100,
            "micro_batch_size": 30,
            "base_batch_size": 128,
            "lr_scaling": "sqrt",
            "one_d_lr": 0.024,
            "init": "kaiming_normal",
            "augmentation": "shift",
            "label_smoothing": 0.1,
            "precision": "bf16",
            "checkpoint_every_epochs": 3,
        },
    )
    plan, job = make_plan(spec), _job(spec)
    config = trial_config(spec, plan, job)
    assert config.arm == "lars"
    assert config.hyperparameters == {
        "base_lr": 1.5,
        "weight_decay": 1e-4,
        "momentum": 0.9,
        "trust_coefficient": 1e-3,
        "nesterov": False,
    }
    assert (config.data.name, config.data.validation_fraction, config.data.test_fraction) == ("digits", 0.1, 0.3)
    assert config.data.split_seed == split_seed(plan, job.cell, 1)
    assert (config.epochs, config.batch_size, config.micro_batch_size, config.seed) == (7, 100, 30, 12345)
    assert (config.init, config.lr_scaling, config.base_batch_size) == ("kaiming_normal", "sqrt", 128)
    assert (config.one_d_lr, config.augmentation, config.precision) == (0.024, "shift", "bf16")
    assert (config.label_smoothing, config.checkpoint_every_epochs) == (0.1, 3)
    assert (config.model, config.task) == ("resnet8", "classification")


def test_only_confirm_runs_read_the_test_split(make_spec: SpecFactory) -> None:
    spec = make_spec()
    plan = make_plan(spec)
    assert not trial_config(spec, plan, _job(spec)).evaluate_test
    assert trial_config(spec, plan, _job(spec, phase=CONFIRM)).evaluate_test


@pytest.mark.parametrize("batch_size", [16, 64, 512])
def test_a_searched_batch_size_keeps_the_blocks_micro_batch(batch_size: int, make_spec: SpecFactory) -> None:
    spec = make_spec(space={"lars": {"batch_size": {"low": 16, "high": 512, "int": True}}})
    config = trial_config(spec, make_plan(spec), _job(spec, {"batch_size": batch_size}))
    assert config.batch_size == batch_size
    assert config.micro_batch_size == min(batch_size, 64)
    assert "batch_size" not in config.hyperparameters


@pytest.mark.parametrize("where", ["fixed", "searched"])
def test_init_of_the_space_beats_the_trains(where: str, make_spec: SpecFactory) -> None:
    change = "xavier_normal" if where == "fixed" else {"values": ["default", "xavier_normal"]}
    spec = make_spec(space={"lars": {"init": change}}, train={"epochs": 3, "batch_size": 64, "init": "kaiming_normal"})
    params: dict[str, Value] = {} if where == "fixed" else {"init": "xavier_normal"}
    config = trial_config(spec, make_plan(spec), _job(spec, params))
    assert config.init == "xavier_normal"
    assert "init" not in config.hyperparameters


def test_round_trip_through_json(make_spec: SpecFactory) -> None:
    spec = make_spec()
    config = trial_config(spec, make_plan(spec), _job(spec))
    again = TrialConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert again.digest() == config.digest()
    other = trial_config(spec, make_plan(spec), _job(spec, {"base_lr": 1.6}))
    assert other.digest() != config.digest()
