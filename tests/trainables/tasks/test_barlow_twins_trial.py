"""Barlow Twins in the loop: it learns, resumes, and does the same in two passes and on two workers.

This file is also the workers' script.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.augment import AUGMENTATIONS, Augmentation
from trainables.config import DataConfig, TrialConfig
from trainables.isolation import isolated
from trainables.loop import TIMING_KEYS, Report, train
from trainables.measure import evaluate
from trainables.models import MODELS, SmallResNet
from trainables.session import build_session


def deform(images: Tensor, uniforms: Tensor, peak: float) -> Tensor:
    """Turn, stretch, slant, shift and darken: what leaves a digit the digit it is."""
    turn, stretch, slant, across, down, widen, darken = (2 * uniforms - 1).unbind(dim=1)
    cosine, sine = torch.cos(0.3 * turn), torch.sin(0.3 * turn)
    stretch, widen = 1 + 0.25 * stretch, 1 + 0.25 * widen
    rows = [stretch * cosine, 0.3 * slant - stretch * sine, 0.25 * across, widen * sine, widen * cosine, 0.25 * down]
    images = images / peak
    grid = F.affine_grid(torch.stack(rows, dim=1).view(-1, 2, 3), list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, align_corners=False).clamp(0, 1)
    return moved ** torch.exp(0.7 * darken)[:, None, None, None]


def narrow(in_channels: int, classes: int, image_size: int) -> nn.Module:
    """32 features: a converged probe reads nine of ten digits from resnet8's 64 before any training."""
    return SmallResNet(in_channels, classes, widths=(8, 16, 32))


def without_norms(in_channels: int, classes: int, image_size: int) -> nn.Module:
    """Nothing but the loss couples its samples."""
    stem = nn.Sequential(nn.Conv2d(in_channels, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.ReLU())
    return nn.Sequential(stem, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, classes))


LAYER_WISE = {"base_lr": 2.0, "weight_decay": 1e-4, "momentum": 0.9, "trust_coefficient": 1e-2}
OWN = [
    (AUGMENTATIONS, "deform", lambda size: Augmentation("deform", 7, (deform, deform))),
    (MODELS, "narrow", narrow),
    (MODELS, "without_norms", without_norms),
]


def small_trial(**changes: Any) -> TrialConfig:
    """Three epochs of three steps."""
    fields: dict[str, Any] = {
        "arm": "lars_warmup",
        "hyperparameters": {"warmup_epochs": 1.0, **LAYER_WISE},
        "data": DataConfig("synthetic", options={"items": 200, "noise": 2.0}),
        "model": "resnet8",
        "task": "barlow_twins",
        "task_options": {"projector": "24-16"},
        "epochs": 3,
        "batch_size": 40,
        "micro_batch_size": 20,
        "seed": 3,
        "augmentation": "deform",
        "evaluate_test": True,
    }
    return TrialConfig(**{**fields, **changes})


def uncoupled_trial(**changes: Any) -> TrialConfig:
    return small_trial(model="without_norms", task_options={"projector": "16"}, **changes)


def history(config: TrialConfig) -> list[Report]:
    reports: list[Report] = []
    assert train(config, reports.append).status == "complete"
    return [{key: value for key, value in report.items() if key not in TIMING_KEYS} for report in reports]


def script(rank: int, folder: Path) -> None:
    for table, name, entry in OWN:
        table[name] = entry
    torch.distributed.init_process_group(
        "gloo", f"file://{folder}/store", world_size=2, rank=rank, timeout=timedelta(seconds=60)
    )
    torch.save(history(uncoupled_trial(workers=2, micro_batch_size=10)), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()
    os._exit(0)  # threads of gloo may abort an orderly end of the interpreter


@pytest.fixture(autouse=True)
def _own(monkeypatch: pytest.MonkeyPatch) -> None:
    for table, name, entry in OWN:
        monkeypatch.setitem(table, name, entry)


def test_it_learns_digits_without_labels() -> None:
    """The linear probe of a short run is ten points or more above that of the backbone it began with."""
    config = small_trial(
        arm="adamw",
        hyperparameters={"base_lr": 0.01, "weight_decay": 1e-4},
        data=DataConfig("digits"),
        model="narrow",
        task_options={"projector": "128-128", "off_diagonal_weight": 0.02},
        epochs=12,
        batch_size=128,
        micro_batch_size=128,
    )
    with isolated(torch.device("cpu")):
        session = build_session(config)
        untrained = evaluate(session, "test", lambda: None)
        session.close()
    last = history(config)[-1]
    assert last["test/accuracy"] >= untrained["test/accuracy"] + 0.1
    assert last["test/knn_accuracy"] >= untrained["test/knn_accuracy"] + 0.1
    assert untrained["test/accuracy"] > 0.5


def test_resumed_equals_uninterrupted(
    tmp_path: Path, final_state: Callable[[Path], dict[str, Any]], assert_same: Callable[[object, object], None]
) -> None:
    config = small_trial()
    train(config, lambda report: None, checkpoint_dir=tmp_path / "whole")
    seen: list[Report] = []
    stopped = train(config, seen.append, checkpoint_dir=tmp_path / "resumed", should_stop=lambda: len(seen) >= 2)
    assert (stopped.status, stopped.epochs) == ("stopped", 2)
    train(config, seen.append, checkpoint_dir=tmp_path / "resumed")
    assert_same(final_state(tmp_path / "resumed"), final_state(tmp_path / "whole"))


@pytest.mark.parametrize("arm", ["lars_warmup", "clars"])
def test_two_passes_train_as_one(arm: str) -> None:
    knobs = {**LAYER_WISE, **({"warmup_epochs": 1.0} if arm == "lars_warmup" else {})}
    one, two = (history(uncoupled_trial(arm=arm, hyperparameters=knobs, micro_batch_size=size)) for size in (40, 15))
    for found, expected in zip(two, one, strict=True):
        assert found["train/loss"] == pytest.approx(expected["train/loss"], rel=1e-4)
    assert abs(one[-1]["train/loss"] - one[0]["train/loss"]) > 0.01


def test_two_workers_train_as_one(run_workers: Callable[..., list[Any]]) -> None:
    found, _ = run_workers(__file__)  # the first one reports
    assert len(found) == 3
    for report, expected in zip(found, history(uncoupled_trial(micro_batch_size=40)), strict=True):
        assert report.keys() == expected.keys()
        assert report["train/loss"] == pytest.approx(expected["train/loss"], rel=1e-4)
        # among 40 images a neighbour that changes with the last digits moves this by half a percent
        assert report["val/loss"] == pytest.approx(expected["val/loss"], rel=2e-2)


def test_a_diverged_run_reports_the_same_keys() -> None:
    reports: list[Report] = []
    config = small_trial(arm="sgd", hyperparameters={"base_lr": 1e30, "weight_decay": 0.0, "momentum": 0.9})
    outcome = train(config, reports.append)
    assert outcome.status == "diverged"
    assert reports[-1]["val/accuracy"] == 1 / 4
    assert all(math.isfinite(value) for value in reports[-1].values())
    assert reports[-1].keys() - TIMING_KEYS == history(small_trial(epochs=1))[-1].keys()


if __name__ == "__main__":
    script(int(sys.argv[1]), Path(sys.argv[2]))
