"""Two workers do as one: the same loss and gradient, the same training, exact resume. Also the workers' script."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from trainables import models
from trainables.config import ConfigError, DataConfig, TrialConfig
from trainables.epoch import Hooks, Progress, accumulate_gradient, train_epoch
from trainables.isolation import generator, isolated
from trainables.loop import TIMING_KEYS, Report, train
from trainables.session import build_session
from trainables.totals import Totals

WORKERS = 2
NORMLESS = "normless"
RunJob = Callable[..., Sequence[Any]]
Make = Callable[..., TrialConfig]


def normless(in_channels: int, classes: int, image_size: int) -> nn.Module:
    """Nothing couples the samples, so that the cut into workers and micro-batches leaves no trace."""
    del image_size
    return nn.Sequential(
        nn.Conv2d(in_channels, 8, 3, padding=1),
        nn.GroupNorm(2, 8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(8 * 16, classes),
    )


def step_gradients(config: TrialConfig) -> dict[str, Any]:
    """Loss, gradients and per-sample norms of one global batch, as the loop computes them."""
    with isolated(torch.device("cpu")):
        session = build_session(config)
        order = torch.randperm(len(session.splits.train), generator=torch.Generator().manual_seed(7))
        chunks = session.workers.share(order[: config.batch_size]).tensor_split(session.micro_batches)
        totals = Totals(session.device)
        read = session.splits.train.batches(chunks)
        loss = accumulate_gradient(session, 1, chunks, read, totals, lambda: None)
        norms = session.arm.sample_norms.mean_norms().means if session.arm.sample_norms else torch.zeros(0)
        mean, counts = totals.over(session.workers).read()
        gradients = [parameter.grad for parameter in session.model.parameters()]
        session.close()
    return {"loss": loss, "gradients": gradients, "norms": norms, "measured": [mean, counts["correct"]]}


def buffers_after_an_epoch(config: TrialConfig) -> dict[str, torch.Tensor]:
    with isolated(torch.device("cpu")):
        session = build_session(config)
        train_epoch(session, 1, Progress(), Hooks())
        found = dict(session.model.named_buffers())
        session.close()
    return found


def run_loop(config: TrialConfig, folder: Path, stop_after: int | None = None) -> dict[str, Any]:
    reports: list[Report] = []
    outcome = train(
        config,
        reports.append,
        checkpoint_dir=folder,
        should_stop=lambda: stop_after is not None and len(reports) >= stop_after,
    )
    return {"status": outcome.status, "reports": reports, "reason": str(outcome.reason), "last": outcome.report}


def worker(rank: int, folder: Path) -> None:
    models.MODELS[NORMLESS] = normless
    torch.distributed.init_process_group(
        "gloo", f"file://{folder}/store", world_size=WORKERS, rank=rank, timeout=timedelta(seconds=60)
    )
    job = torch.load(folder / "job.pt", weights_only=True)
    config = TrialConfig.from_dict(job["config"])
    if job["what"] == "gradients":
        found = step_gradients(config)
    elif job["what"] == "buffers":
        found = buffers_after_an_epoch(config)
    else:
        # only the first worker's word counts
        found = run_loop(config, folder / "checkpoints", job["stop_after"] if rank == 0 else 1)
    torch.save(found, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()
    os._exit(0)  # threads of gloo may abort an orderly end of the interpreter


@pytest.fixture
def run_job(run_workers: Callable[..., list[Any]]) -> RunJob:
    """What each of two workers finds of a job, in a folder of its own or the one that holds its checkpoints."""

    def run(folder: Path, config: TrialConfig, what: str, stop_after: int | None = None) -> Sequence[Any]:
        torch.save({"config": config.to_dict(), "what": what, "stop_after": stop_after}, folder / "job.pt")
        (folder / "store").unlink(missing_ok=True)
        return run_workers(__file__, folder=folder)

    return run


@pytest.fixture(autouse=True)
def planted_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.MODELS, NORMLESS, normless)


@pytest.mark.parametrize(("arm", "batch", "micro"), [("clars", 40, 40), ("sgd", 41, 6), ("sgd", 3, 1)])
def test_loss_and_gradient_are_those_of_one_worker(
    make_config: Make, tmp_path: Path, run_job: RunJob, arm: str, batch: int, micro: int
) -> None:
    """Also where shares differ by one sample and where a worker has fewer samples than the other micro-batches."""
    alone = make_config(arm, model=NORMLESS, batch_size=batch, micro_batch_size=batch)
    together = make_config(arm, model=NORMLESS, batch_size=batch, micro_batch_size=micro, workers=WORKERS)
    expected = step_gradients(alone)
    for found in run_job(tmp_path, together, "gradients"):
        torch.testing.assert_close(found["loss"], expected["loss"], rtol=1e-5, atol=0)
        torch.testing.assert_close(found["norms"], expected["norms"], rtol=1e-5, atol=0)
        assert found["measured"] == pytest.approx(expected["measured"], rel=1e-5)
        for ours, theirs in zip(found["gradients"], expected["gradients"], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_training_is_that_of_one_worker_and_resumes_exactly(
    make_config: Make, tmp_path: Path, run_job: RunJob, assert_same: Callable[[object, object], None]
) -> None:
    def untimed(reports: Sequence[Report]) -> list[Report]:
        return [{key: value for key, value in report.items() if key not in TIMING_KEYS} for report in reports]

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    config = make_config("lars_warmup", model=NORMLESS, workers=WORKERS, evaluate_test=True)
    first, second = run_job(whole, config, "train")
    assert first["status"] == second["status"] == "complete"
    assert second["reports"] == []  # only the first tells
    assert untimed([first["last"]]) == untimed([second["last"]])

    alone = run_loop(make_config("lars_warmup", model=NORMLESS, evaluate_test=True), tmp_path / "alone")
    for ours, theirs in zip(first["reports"], alone["reports"], strict=True):
        assert ours["val/loss"] == pytest.approx(theirs["val/loss"], rel=1e-3)
        assert ours["train/loss"] == pytest.approx(theirs["train/loss"], rel=1e-3)
    assert first["reports"][-1]["test/items"] == 40

    stopped = run_job(cut, config, "train", stop_after=2)
    assert [found["status"] for found in stopped] == ["stopped", "stopped"]
    assert len(stopped[0]["reports"]) == 2
    resumed, _ = run_job(cut, config, "train")
    assert untimed(resumed["reports"]) == untimed(first["reports"])


def test_batchnorm_nets_learn_alike_and_evaluate_one_model(make_config: Make, tmp_path: Path, run_job: RunJob) -> None:
    """With BatchNorm over each worker's share the numbers differ, the learning does not."""
    config = make_config(
        "lars_warmup",
        hyperparameters={"base_lr": 2.5, "weight_decay": 1e-4, "warmup_epochs": 3.0},
        data=DataConfig("digits"),
        batch_size=512,
        micro_batch_size=512,
        epochs=10,
        augmentation="none",
        workers=WORKERS,
    )
    first, second = run_job(tmp_path, config, "train")
    assert first["last"]["val/loss"] == second["last"]["val/loss"]
    alone = run_loop(TrialConfig.from_dict({**config.to_dict(), "workers": 1}), tmp_path / "alone")
    ours, theirs = first["reports"][-1]["val/accuracy"], alone["reports"][-1]["val/accuracy"]
    assert theirs > 0.8
    # 360 images: a standard error of 1.5 points or less each
    assert abs(ours - theirs) < 0.06


def test_running_statistics_are_the_mean_over_the_workers(make_config: Make, tmp_path: Path, run_job: RunJob) -> None:
    """One step on all 120 images, 60 a worker: half of each one's statistics, in its own BatchNorm."""
    config = make_config("sgd", batch_size=120, micro_batch_size=60, augmentation="none", workers=WORKERS)
    first, second = run_job(tmp_path, config, "buffers")
    assert all(torch.equal(buffer, second[name]) for name, buffer in first.items())
    session = build_session(dataclasses.replace(config, workers=1))
    order = torch.randperm(120, generator=generator(config.seed, "order", 1))
    ((images, _),) = session.splits.train.batches([order])
    with torch.no_grad():
        channels = session.model.get_submodule("stem.0")(session.clean(images)).transpose(0, 1)
    halves = [half.flatten(1) for half in channels.tensor_split(2, dim=1)]
    mean = torch.stack([half.mean(dim=1) for half in halves]).mean(dim=0)
    variance = torch.stack([half.var(dim=1) for half in halves]).mean(dim=0)
    torch.testing.assert_close(first["stem.1.running_mean"], 0.1 * mean, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(first["stem.1.running_var"], 0.9 + 0.1 * variance, rtol=1e-4, atol=1e-6)


def test_divergence_ends_both_at_the_same_step(make_config: Make, tmp_path: Path, run_job: RunJob) -> None:
    knobs = {"base_lr": 1e37, "weight_decay": 1e-4, "momentum": 0.9}
    config = make_config("sgd", hyperparameters=knobs, model=NORMLESS, workers=WORKERS)
    first, second = run_job(tmp_path, config, "train")
    assert first["status"] == second["status"] == "diverged"
    assert first["reason"] == second["reason"]


def test_another_number_of_workers_is_refused(make_config: Make) -> None:
    with pytest.raises(ConfigError, match="made for 2 workers, but 1 train it"):
        build_session(make_config(workers=2))


if __name__ == "__main__":
    worker(int(sys.argv[1]), Path(sys.argv[2]))
