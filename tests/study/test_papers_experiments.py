"""What the papers ran, in small: CIFAR-format files through `python -m study.run` to the report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from study import open_study
from study.records import CONFIRM, SEARCH
from trainables.diagnostics.layer_table import read_layers

INITIALIZATIONS = ["default", "xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal"]


@pytest.fixture
def run_study(tmp_path: Path, write_cifar10: Callable[..., Path]) -> Callable[..., Path]:
    """Write 60 training and 12 test images, run a study on them; returns its folder."""

    def run(**changes: Any) -> Path:
        write_cifar10(tmp_path / "data", items=12)
        study = {
            "schema_version": 1,
            "name": "small-cifar",
            "question": "q",
            "data": {"name": "cifar10", "root": str(tmp_path / "data"), "options": {"verify": False}},
            **changes,
        }
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump(study))
        environment = {**os.environ, "STUDY_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "study.run", str(path)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=540, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return tmp_path / "home" / "small-cifar"

    return run


def last_reports(folder: Path) -> dict[str, dict[str, float]]:
    """The last report of every trial, by the name of its folder."""
    found = {}
    for path in (folder / "trials").glob("*/reports.jsonl"):
        found[path.parent.name] = json.loads(path.read_text().splitlines()[-1])
    return found


@pytest.mark.timeout(600)
def test_resnet18_with_clars_every_initialisation_and_every_diagnostic(run_study: Callable[..., Path]) -> None:
    folder = run_study(
        model={"name": "resnet18"},
        train={"epochs": 2, "batch_size": 24, "augmentation": "crop_flip", "label_smoothing": 0.1},
        arms=["clars"],
        space={
            "clars": {"init": {"values": INITIALIZATIONS}, "base_lr": 4.0, "weight_decay": 5e-4},
        },
        search={"method": "grid", "repeats": 1},
        diagnostics={
            "layer_statistics": 1,
            "curvature": 2,
            "sam_sharpness": 2,
            "noise_scale": 2,
            "target_accuracy": 0.99,
            "items": 8,
            "noise_batches": 4,
            "curvature_products": 3,
        },
    )
    record = open_study("small-cifar", home=folder.parent)
    searched = record.of_cell("clars/B24", SEARCH)
    assert record.finished
    assert sorted(trial.params["init"] for trial in searched) == sorted(INITIALIZATIONS)
    assert {trial.state for trial in record.trials} == {"complete"}
    (confirm,) = record.of_cell("clars/B24", CONFIRM)
    assert confirm.metrics["test/items"] == 12
    reports = last_reports(folder)
    assert len(reports) == 6
    for report in reports.values():
        assert report["steps"] == 4
        assert report["target/reached"] == 0  # random labels in two epochs
        assert {"curvature/largest", "curvature/smallest", "curvature/sam_sharpness", "noise/variance"} <= set(report)
        assert any(key.startswith("layers/") for key in report)
    for trial in reports:
        layers = read_layers(folder / "trials" / trial / "layers.jsonl")
        assert layers is not None
        assert layers.steps.tolist() == [0, 1, 2, 3]
        assert len(layers.names) == 62  # tensors of ResNet-18
    assert (folder / "report.html").stat().st_size > 10_000


@pytest.mark.timeout(600)
def test_barlow_twins_is_confirmed_by_a_linear_probe(run_study: Callable[..., Path]) -> None:
    folder = run_study(
        task={"name": "barlow_twins", "options": {"projector": "64-64", "knn_neighbours": 3}},
        model={"name": "resnet20"},
        train={"epochs": 2, "batch_size": 24, "micro_batch_size": 12, "augmentation": "barlow_twins"},
        arms=["tvlars", "lars_warmup"],
        search={"method": "random", "trials": 2, "repeats": 1},
    )
    record = open_study("small-cifar", home=folder.parent)
    assert record.finished
    confirms = [trial for trial in record.trials if trial.phase == CONFIRM]
    assert {trial.arm for trial in confirms} == {"tvlars", "lars_warmup"}
    for trial in confirms:
        assert trial.metrics["test/items"] == 12
        assert 0 <= trial.metrics["test/accuracy"] <= 1
        assert "test/knn_accuracy" in trial.metrics
    assert all("test/accuracy" not in trial.metrics for trial in record.trials if trial.phase == SEARCH)
