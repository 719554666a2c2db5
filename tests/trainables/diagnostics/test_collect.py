"""Whole trials with every diagnostic on: training is untouched, resume exact, workers agree. Also their script."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from trainables import models
from trainables.config import ConfigError, DataConfig, DiagnosticsConfig, TrialConfig
from trainables.diagnostics.layer_table import FIELDS, LayerFile, LayerTable, read_layers
from trainables.diagnostics.samples import FixedSamples
from trainables.loop import TIMING_KEYS, Outcome, Report, train

Make = Callable[..., TrialConfig]
AssertSame = Callable[[object, object], None]
EVERYTHING = DiagnosticsConfig(
    layer_statistics=2,
    curvature=2,
    sam_sharpness=3,
    noise_scale=2,
    target_accuracy=0.3,
    items=24,
    curvature_products=4,
    noise_batches=3,
)
LAYERS = {f"layers/{name}" for name in ("lwn_median", "lgn_median", "lnr_median", "lnr_max", "trust_ratio_median")}
CURVATURE = {"curvature/largest", "curvature/smallest", "curvature/residual"}
NOISE = {"noise/gradient_squared", "noise/variance", "noise/batch_variance"}
SUBSET = {"base_lr": 20.0, "trust_coefficient": 1e-2, "sample_norms": "subset", "norm_samples": 5}
TRIALS: dict[str, dict[str, Any]] = {
    "sgd_warmup": {},
    "adamw": {},
    "lars": {},
    "clars": {"hyperparameters": SUBSET},
}


def restless(in_channels: int, classes: int, image_size: int) -> nn.Module:
    """BatchNorm, whose buffers could move, and dropout, whose random numbers could be drawn by others."""
    del image_size
    layers = (nn.Conv2d(in_channels, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.2), nn.AdaptiveAvgPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(24, classes))


@pytest.fixture(autouse=True)
def planted_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.MODELS, "restless", restless)


@pytest.fixture
def make(make_config: Make) -> Make:
    return lambda arm="lars", **changes: make_config(arm, **{"model": "restless", **TRIALS.get(arm, {}), **changes})


def run(config: TrialConfig, folder: Path, stop_after: int = 0) -> tuple[Outcome, list[Report]]:
    reports: list[Report] = []
    outcome = train(
        config,
        reports.append,
        record=LayerFile(folder / "layers.jsonl").append,
        checkpoint_dir=folder / "checkpoints",
        should_stop=lambda: len(reports) == stop_after,
    )
    return outcome, reports


@pytest.mark.parametrize("arm", TRIALS)
def test_training_is_the_same_bit_for_bit(
    make: Make, tmp_path: Path, final_state: Callable[[Path], dict[str, Any]], assert_same: AssertSame, arm: str
) -> None:
    _, plain = run(make(arm), tmp_path / "plain")
    _, measured = run(make(arm, diagnostics=EVERYTHING), tmp_path / "measured")
    for one, other in zip(plain, measured, strict=True):
        assert {key: other[key] for key in one if key not in TIMING_KEYS} == {
            key: value for key, value in one.items() if key not in TIMING_KEYS
        }
        assert not [key for key in one if key.split("/")[0] in ("layers", "curvature", "noise", "target")]
        assert "diagnostics_seconds" not in one
    states = [final_state(tmp_path / name / "checkpoints")["state"] for name in ("plain", "measured")]
    for state in states:
        state["optimizer"].pop("layer_stats", None)
        del state["history"]
    assert_same(*states)
    assert not (tmp_path / "plain" / "layers.jsonl").exists()


@pytest.mark.parametrize("arm", TRIALS)
def test_keys_and_table(make: Make, tmp_path: Path, arm: str) -> None:
    """Four epochs of three steps; a record every second step: two in the odd epochs and one in the even ones."""
    _, reports = run(make(arm, diagnostics=EVERYTHING), tmp_path)
    for report in reports:
        epoch = int(report["epoch"])
        assert set(report) >= LAYERS | {"diagnostics_seconds", "target/reached"}
        assert (set(report) >= CURVATURE) == (epoch in (2, 4))
        assert (set(report) >= NOISE) == (epoch in (2, 4))
        assert ("curvature/sam_sharpness" in report) == (epoch in (3, 4))
        assert all(np.isfinite(value) for value in report.values())
        images = 3 * 40
        assert report["epoch_seconds"] >= report["diagnostics_seconds"] + images / report["images_per_second"]
    table = read_layers(tmp_path / "layers.jsonl")
    assert table is not None
    assert table.steps.tolist() == [0, 2, 4, 6, 8, 10]
    assert table.epochs.tolist() == [1, 1, 2, 3, 3, 4]
    assert (table.trust_ratio == 1).all() == (arm in ("sgd_warmup", "adamw"))
    assert reports[-1]["layers/lnr_max"] == pytest.approx(table.lnr[-1][np.array(table.dimensions) > 1].max())


@pytest.mark.parametrize("arm", TRIALS)
@pytest.mark.parametrize("every", [1, 3])
def test_resume_is_exact(
    make: Make,
    tmp_path: Path,
    final_state: Callable[[Path], dict[str, Any]],
    untimed: Callable[[Report], Report],
    assert_same: AssertSame,
    arm: str,
    every: int,
) -> None:
    """After a stop, and after a crash that leaves the file of layers epochs ahead of the checkpoint."""
    config = make(arm, diagnostics=EVERYTHING, checkpoint_every_epochs=every)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    _, expected = run(config, whole)
    run(config, cut, stop_after=1)

    def crash(report: Report) -> None:
        if report["epoch"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, crash, record=LayerFile(cut / "layers.jsonl").append, checkpoint_dir=cut / "checkpoints")
    _, again = run(config, cut)
    assert list(map(untimed, again)) == list(map(untimed, expected))
    assert_same(final_state(cut / "checkpoints"), final_state(whole / "checkpoints"))
    assert (cut / "layers.jsonl").read_bytes() == (whole / "layers.jsonl").read_bytes()


def test_target_stands_in_every_report_from_then_on(make: Make, tmp_path: Path) -> None:
    _, reports = run(make("sgd_warmup", model="resnet8", diagnostics=EVERYTHING), tmp_path)
    first = next(index for index, report in enumerate(reports) if report["val/accuracy"] >= 0.3)
    for report in reports[:first]:
        assert (report["target/reached"], "target/epochs" in report) == (0.0, False)
    seconds = sum(3 * 40 / report["images_per_second"] for report in reports[: first + 1])
    for report in reports[first:]:
        assert (report["target/reached"], report["target/epochs"]) == (1.0, first + 1)
        assert report["target/steps"] == 3 * (first + 1)
        assert report["target/seconds"] == pytest.approx(seconds)


def test_a_diverged_run_has_its_norms(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing else; the guess that stands in for its accuracy reaches no target."""
    monkeypatch.setattr(FixedSamples, "measure", None)
    tables: list[LayerTable] = []
    reports: list[Report] = []
    wild = {"base_lr": 1e30, "weight_decay": 0.0, "momentum": 0.9}
    diagnostics = DiagnosticsConfig(layer_statistics=1, curvature=1, items=24, target_accuracy=0.2)
    config = make("sgd", hyperparameters=wild, one_d_lr="raw", diagnostics=diagnostics)
    outcome = train(config, reports.append, record=tables.append)
    assert outcome.status == "diverged"
    last = reports[-1]
    assert last["val/accuracy"] > 0.2
    assert last["target/reached"] == 0.0
    assert last["layers/lwn_median"] > 0
    assert "curvature/largest" not in last
    assert tables[-1].steps.tolist() == list(range(int(last["steps"])))


def test_their_time_is_shown_and_is_not_trainings(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(self: FixedSamples, *_: object) -> dict[str, float]:
        time.sleep(0.3)
        return {}

    monkeypatch.setattr(FixedSamples, "measure", slow)
    reports: list[Report] = []
    train(make(epochs=1, diagnostics=EVERYTHING), reports.append)
    (report,) = reports
    assert report["diagnostics_seconds"] >= 0.3
    assert 0.3 + 3 * 40 / report["images_per_second"] <= report["epoch_seconds"]


def test_how_it_was_measured_is_a_fact(make: Make) -> None:
    facts: list[Mapping[str, object]] = []
    train(make(epochs=1, diagnostics=EVERYTHING), lambda report: None, learn=facts.append)
    train(make(epochs=1), lambda report: None, learn=facts.append)
    assert (facts[0]["diagnostics_items"], facts[0]["diagnostics_batchnorm"]) == (24, "train")
    assert not [name for name in facts[1] if name.startswith("diagnostics")]


def test_what_cannot_be_measured_is_refused_before_training(make: Make) -> None:
    config = make(diagnostics=DiagnosticsConfig(noise_scale=1, items=500, noise_batches=400))
    with pytest.raises(ConfigError, match="noise_batches"):
        train(config, lambda report: None)


def shared_trial(**changes: Any) -> TrialConfig:
    """Without BatchNorm and dropout, the cut into workers leaves no trace but rounding."""
    fields: dict[str, Any] = {
        "hyperparameters": {"base_lr": 20.0, "weight_decay": 1e-4, "momentum": 0.9, "trust_coefficient": 1e-2},
        "data": DataConfig("synthetic", options={"items": 200, "noise": 2.0}),
        "epochs": 2,
        "batch_size": 40,
        "micro_batch_size": 20,
        "seed": 3,
        "diagnostics": EVERYTHING,
    }
    return TrialConfig("clars", model="calm", task="classification", **{**fields, **changes})


def calm(in_channels: int, classes: int, image_size: int) -> nn.Module:
    del image_size
    layers = (nn.Conv2d(in_channels, 6, 3), nn.GroupNorm(2, 6), nn.Tanh(), nn.AdaptiveAvgPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(24, classes))


def shared_run(config: TrialConfig) -> dict[str, Any]:
    tables: list[LayerTable] = []
    models.MODELS["calm"] = calm
    try:
        outcome = train(config, lambda report: None, record=tables.append)
    finally:
        del models.MODELS["calm"]
    arrays = [torch.from_numpy(getattr(table, name)) for table in tables for name in FIELDS]
    return {"report": {k: v for k, v in outcome.report.items() if k not in TIMING_KEYS}, "tables": arrays}


def test_two_workers_measure_what_one_does(run_workers: Callable[[str], list[Any]]) -> None:
    alone = shared_run(shared_trial())
    first, second = run_workers(__file__)
    assert first["report"] == second["report"]
    assert set(first["report"]) >= LAYERS | CURVATURE | NOISE
    assert first["report"] == pytest.approx(alone["report"], rel=1e-2, abs=1e-4)
    assert len(first["tables"]) == len(alone["tables"]) > 0
    assert second["tables"] == []
    for ours, theirs in zip(first["tables"], alone["tables"], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


if __name__ == "__main__":
    place = Path(sys.argv[2])
    torch.distributed.init_process_group(
        "gloo", f"file://{place}/store", world_size=2, rank=int(sys.argv[1]), timeout=timedelta(seconds=60)
    )
    torch.save(shared_run(shared_trial(workers=2)), place / f"{sys.argv[1]}.pt")
    torch.distributed.destroy_process_group()
    os._exit(0)  # threads of gloo may abort an orderly end of the interpreter
