"""A study that names every key: it comes back from JSON unchanged, and every change to it changes the lock."""

from __future__ import annotations

import json
from typing import Any

import pytest

from search_spaces import Float, Value
from study import load_study
from study.load import validate

FULL: dict[str, Any] = {
    "schema_version": 1,
    "name": "full",
    "question": "q",
    "task": "classification",
    "data": {
        "name": "digits",
        "root": "/data",
        "download": True,
        "options": {"verify": False},
        "validation_fraction": 0.1,
        "test_fraction": 0.3,
        "resplit": False,
    },
    "model": [{"name": "resnet8"}],
    "train": {
        "epochs": 30,
        "batch_size": [64, "full"],
        "micro_batch_size": 32,
        "base_batch_size": 128,
        "lr_scaling": "sqrt",
        "one_d_lr": ["raw", 0.024],
        "init": "xavier_normal",
        "augmentation": "shift",
        "label_smoothing": 0.1,
        "precision": "bf16",
        "compile": True,
        "sync_batchnorm": True,
        "checkpoint_every_epochs": 2,
        "keep_checkpoints": 3,
    },
    "arms": ["lars", "lars_warmup"],
    "space": {
        "lars": {"base_lr": {"low": 1, "high": 2, "log": True}, "momentum": {"values": [0.8, 0.9]}},
        "all": {"weight_decay": 0.001},
    },
    "search": {
        "method": "random",
        "trials": 4,
        "repeats": 5,
        "metric": "val/accuracy",
        "seed": 7,
        "startup_trials": 2,
        "try_first": [{"base_lr": 1.5}],
        "warm_start": {"study": "before"},
        "equalize": True,
        "early_stopping": {"method": "asha", "reduction_factor": 4, "first_rung": 10, "audit": 0.1},
        "storage": "sqlite",
    },
    "confirm": {"seeds": 2, "rerank": 3},
    "budget": {"device_hours": 10.0, "wall": "2h"},
    "claims": [
        {
            "id": "C",
            "kind": "rate",
            "arm": "lars",
            "than": "lars_warmup",
            "metric": "diverged",
            "margin": 0.1,
            "why": "w",
            "level": 0.9,
            "pooled": True,
        }
    ],
    "diagnostics": {
        "layer_statistics": 10,
        "curvature": 5,
        "sam_sharpness": 4,
        "noise_scale": 3,
        "target_accuracy": 0.9,
        "items": 64,
        "batchnorm": "eval",
        "rho": 0.1,
        "curvature_products": 9,
        "noise_batches": 4,
    },
    "resources": {
        "workers": 1,
        "cpus_per_worker": 2,
        "gpus_per_worker": 0.5,
        "accelerator_type": "A100",
        "max_concurrent": 1,
        "retries": 0,
    },
}


def test_round_trip_through_json() -> None:
    spec = validate(FULL, where="full")
    again = validate(json.loads(json.dumps(spec.to_dict())), where="again")
    assert again == spec
    assert again.digest() == spec.digest()
    default = load_study()
    assert validate(json.loads(json.dumps(default.to_dict())), where="default") == default


def test_the_full_study_names_every_key() -> None:
    """So that a new key cannot be forgotten in the two tests around this one."""
    found = json.loads(json.dumps(FULL))
    found["claims"][0]["over"] = None  # only a trend has it
    found["replay"] = None  # takes the place of all that is searched
    assert _keys(found) >= _keys(validate(FULL, where="full").to_dict())


def _keys(value: Any, path: str = "") -> set[str]:
    if isinstance(value, dict):
        return {f"{path}.{key}" for key in value}.union(*(_keys(item, f"{path}.{key}") for key, item in value.items()))
    if isinstance(value, list):
        return set().union(*(_keys(item, f"{path}.[]") for item in value))
    return set()


OTHER: dict[str, Value | list[Any]] = {
    "name": "other",
    "question": "other",
    "data.root": "/other",
    "data.validation_fraction": 0.2,
    "data.test_fraction": 0.2,
    "data.resplit": True,
    "train.epochs": 40,
    "train.batch_size": [64],
    "train.micro_batch_size": 16,
    "train.base_batch_size": 256,
    "train.lr_scaling": "linear",
    "train.one_d_lr": ["raw"],
    "train.init": "default",
    "train.augmentation": "none",
    "train.label_smoothing": 0.2,
    "train.precision": "float32",
    "train.checkpoint_every_epochs": 3,
    "arms": ["lars_warmup", "lars"],
    "space.lars.base_lr.high": 3,
    "space.all.weight_decay": 0.002,
    "search.method": "qmc",
    "search.trials": 5,
    "search.repeats": 6,
    "search.seed": 8,
    "search.startup_trials": 3,
    "search.try_first": [],
    "search.warm_start": None,
    "search.equalize": False,
    "search.storage": "journal",
    "search.early_stopping.method": "median",
    "search.early_stopping.audit": 0.2,
    "confirm.rerank": 0,
    "budget.device_hours": 11.0,
    "budget.wall": "3h",
    "search.early_stopping.reduction_factor": 3,
    "search.early_stopping.first_rung": 11,
    "confirm.seeds": 3,
    "claims": [],
    "resources.cpus_per_worker": 1,
    "resources.gpus_per_worker": 1.0,
    "resources.accelerator_type": "H100",
    "resources.max_concurrent": 2,
    "resources.retries": 1,
    "diagnostics.layer_statistics": 1,
    "diagnostics.curvature": 1,
    "diagnostics.sam_sharpness": 1,
    "diagnostics.noise_scale": 1,
    "diagnostics.target_accuracy": 0.8,
    "diagnostics.items": 32,
    "diagnostics.batchnorm": "train",
    "diagnostics.rho": 0.2,
    "diagnostics.curvature_products": 8,
    "diagnostics.noise_batches": 2,
}


@pytest.mark.parametrize("path", OTHER)
def test_every_change_changes_the_lock(path: str) -> None:
    data = json.loads(json.dumps(FULL))
    *parents, key = path.split(".")
    place = data
    for parent in parents:
        place = place[parent]
    assert place[key] != OTHER[path]
    place[key] = OTHER[path]
    assert validate(data, where=path).digest() != validate(FULL, where="full").digest()


def test_the_lock_sees_the_shipped_space(monkeypatch: pytest.MonkeyPatch) -> None:
    from search_spaces import ARM_SPACES

    spec = validate(FULL, where="full")
    before = spec.digest()
    wider = ARM_SPACES["lars"].changed({"base_lr": Float(low=0.1, high=31, log=True)})
    monkeypatch.setitem(ARM_SPACES, "lars", wider)  # type: ignore[arg-type]
    assert spec.digest() != before
