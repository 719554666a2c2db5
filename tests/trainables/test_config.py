"""The description of a trial: strict, JSON-able, with a digest that tells configs apart."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainables.config import ConfigError, DataConfig, DiagnosticsConfig, TrialConfig

Make = Callable[..., TrialConfig]


def test_survives_json(make_config: Make) -> None:
    config = make_config("tvlars", one_d_lr=0.024, label_smoothing=0.1)
    again = TrialConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert again.digest() == config.digest()


def test_digest_tells_every_field_apart(make_config: Make) -> None:
    config = make_config()
    changes: dict[str, Any] = {
        "arm": "lars",
        "hyperparameters": {**config.hyperparameters, "base_lr": 0.31},
        "data": DataConfig("digits"),
        "model": "resnet20",
        "task": "other",
        "epochs": 5,
        "batch_size": 41,
        "micro_batch_size": 19,
        "seed": 4,
        "init": "xavier_normal",
        "lr_scaling": "sqrt",
        "base_batch_size": 128,
        "one_d_lr": "raw",
        "augmentation": "none",
        "precision": "bf16",
        "compile": True,
        "sync_batchnorm": True,
        "workers": 2,
        "task_options": {"projector": "8-8"},
        "device": "auto",
        "label_smoothing": 0.1,
        "evaluate_test": True,
        "checkpoint_every_epochs": 2,
        "keep_checkpoints": 3,
        "diagnostics": DiagnosticsConfig(curvature=1),
    }
    assert set(changes) == {item.name for item in dataclasses.fields(TrialConfig)}
    digests = {dataclasses.replace(config, **{name: value}).digest() for name, value in changes.items()}
    assert len(digests | {config.digest()}) == len(changes) + 1


def test_digest_ignores_the_order_of_hyperparameters(make_config: Make) -> None:
    config = make_config()
    turned = dict(reversed(config.hyperparameters.items()))
    assert dataclasses.replace(config, hyperparameters=turned).digest() == config.digest()


@pytest.mark.parametrize(
    ("scaling", "factor"), [("linear", 1024 / 256), ("sqrt", math.sqrt(1024 / 256)), ("none", 1.0)]
)
def test_lr_scales_with_the_batch(make_config: Make, scaling: str, factor: float) -> None:
    config = make_config(batch_size=1024, lr_scaling=scaling, hyperparameters={"base_lr": 0.5})
    assert config.lr == pytest.approx(0.5 * factor, rel=1e-15)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, but got 0"),
        ({"micro_batch_size": 41}, "micro_batch_size <= batch_size must hold, .*micro_batch_size=41"),
        ({"batch_size": 40.0}, "batch_size must be of type int, but got 40.0"),
        ({"seed": True}, "seed must be of type int, but got True"),
        ({"evaluate_test": 1}, "evaluate_test must be of type bool"),
        ({"precision": "bf61"}, "precision must be one of float32, bf16, .* did you mean 'bf16'"),
        ({"one_d_lr": "cap"}, "one_d_lr must be one of raw, capped, a positive number"),
        ({"one_d_lr": -1.0}, "one_d_lr must be"),
        ({"label_smoothing": 1.0}, r"label_smoothing must lie in \[0, 1\), but got 1.0"),
        ({"hyperparameters": {"weight_decay": 0.0}}, "need base_lr, a positive number, but got None"),
        ({"hyperparameters": {"base_lr": 0.0}}, "need base_lr"),
        ({"hyperparameters": {"base_lr": float("nan")}}, "hyperparameters.base_lr must be finite"),
        ({"hyperparameters": {"base_lr": 1.0, "a": [1]}}, "hyperparameters.a must be a number"),
        ({"hyperparameters": {"base_lr": 1.0, "init": "default"}}, "init is a field of the trial"),
        ({"data": {"name": "digits"}}, "data must be of type DataConfig"),
    ],
)
def test_refuses(make_config: Make, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_config(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation_fraction": 0.0}, "validation_fraction must lie between 0 and 1"),
        ({"validation_fraction": 0.6, "test_fraction": 0.4}, "must leave items to train on"),
        ({"root": 3}, "root must be of type"),
    ],
)
def test_refuses_data(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DataConfig(**changes)


def test_from_dict_is_strict(make_config: Make) -> None:
    values = make_config().to_dict()
    with pytest.raises(ConfigError, match="'epoch'; did you mean 'epochs'"):
        TrialConfig.from_dict({**values, "epoch": 3})
    with pytest.raises(ConfigError, match=r"a field of data .*'seed'"):
        TrialConfig.from_dict({**values, "data": {"seed": 1}})
    del values["arm"], values["seed"]
    with pytest.raises(ConfigError, match="trial lacks arm, seed"):
        TrialConfig.from_dict(values)


def test_numpy_scalars_become_plain(make_config: Make) -> None:
    config = make_config(hyperparameters={"base_lr": np.float64(0.5), "n": np.int64(3), "b": np.bool_(True)})
    assert {name: type(value) for name, value in config.hyperparameters.items()} == {
        "base_lr": float,
        "n": int,
        "b": bool,
    }


def test_needs_no_torch() -> None:
    code = "import sys, trainables.config; sys.exit('torch' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, timeout=60, check=False).returncode == 0
