"""What a study's confirm runs would have measured: made up, the same at each call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from study.analysis.scores import confirming
from study.analysis.traces import Trace
from study.plan import Cell
from study.records import COMPLETE, StudyRecord, TrialRecord
from trainables.diagnostics.layer_table import LayerTable

EVERYTHING = {
    "layer_statistics": 1,
    "curvature": 4,
    "sam_sharpness": 4,
    "noise_scale": 4,
    "target_accuracy": 0.9,
    "items": 512,
    "noise_batches": 8,
}
LAYERS = tuple(f"stage{stage}.block{block}.conv{conv}.weight" for stage in "123" for block in "01" for conv in "12")


@pytest.fixture(scope="session")
def add_measurements() -> Callable[..., tuple[StudyRecord, dict[int, Trace]]]:
    """The record with times to target among its confirm runs' metrics, and the traces of those runs."""

    def add(record: StudyRecord, target: float = 0.9) -> tuple[StudyRecord, dict[int, Trace]]:
        traces: dict[int, Trace] = {}
        settings = record.spec["diagnostics"]
        layers = isinstance(settings, dict) and bool(settings["layer_statistics"])
        trials = list(record.trials)
        for order, cell in enumerate(record.plan.cells):
            for trial in confirming(record, cell):
                trace = _trace(trial, cell, order, target, layers)
                traces[trial.number] = trace
                place = next(place for place, other in enumerate(trials) if other.number == trial.number)
                trials[place] = replace(trial, metrics={**trace.reports[-1], **trial.metrics})
        return replace(record, trials=tuple(trials)), traces

    return add


def _trace(trial: TrialRecord, cell: Cell, order: int, target: float, layers: bool) -> Trace:
    rng = np.random.default_rng([trial.number, order])
    block = cell.block
    an_epoch = block.steps_per_epoch
    reports: list[dict[str, float]] = []
    for epoch in range(1, trial.epochs + 1):
        report = {
            "epoch": float(epoch),
            "steps": float(epoch * an_epoch),
            "val/accuracy": trial.curve.get(epoch, 0.1),
            "images_per_second": 5000.0,
            "epoch_seconds": 0.5,
            "diagnostics_seconds": 0.04 + 0.01 * order,
            "target/reached": 0.0,
        }
        if epoch % 4 == 0 or epoch == trial.epochs:
            wobble = float(np.exp(rng.normal(0, 0.2)))
            variance = 3.0 * wobble * (1 + epoch / 5)
            report |= {
                "curvature/largest": 40.0 / (1 + order) * wobble * epoch**0.5,
                "curvature/smallest": -3.0 * wobble,
                "curvature/sam_sharpness": 0.02 * wobble * (1 + order) / epoch,
                "noise/variance": variance,
                "noise/gradient_squared": 0.05 / epoch,
                "noise/scale": variance / (0.05 / epoch),
                "noise/batch_variance": variance / block.batch_size,
            }
        reached = next((past for past in [*reports, report] if past["val/accuracy"] >= target), None)
        if reached and trial.state == COMPLETE:
            report |= {
                "target/reached": 1.0,
                "target/epochs": reached["epoch"],
                "target/steps": reached["steps"],
                "target/seconds": reached["steps"] * block.batch_size / 5000.0,
            }
        reports.append(report)
    return Trace(tuple(reports), _layers(trial.epochs, an_epoch, order, rng) if layers else None)


def _layers(epochs: int, an_epoch: int, order: int, rng: np.random.Generator) -> LayerTable:
    steps = np.arange(epochs * an_epoch, dtype=np.int64)
    count, depth = len(LAYERS), np.arange(len(LAYERS))
    lwn = (5.0 + depth) * np.exp(rng.normal(0, 0.02, (len(steps), count)))
    lgn = 0.2 * 10 ** (-depth / 8) * np.exp(rng.normal(0, 0.2, lwn.shape)) / (1 + steps[:, None] / (4 + 3 * order))
    ones = np.ones((len(steps), 1))
    table = [np.hstack([values, ones]).astype(np.float32) for values in (lwn, lgn, 1e-3 * lwn / lgn)]
    return LayerTable((*LAYERS, "fc.bias"), (*[4] * count, 1), steps, steps // an_epoch + 1, *table)
