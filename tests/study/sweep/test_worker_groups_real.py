"""Trials of two workers on a real Ray: early stopping, lost workers, stops and resumes, and what they leave behind."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from ray.util import placement_group_table

from study.coordinator import Coordinator
from study.jobs import Job, trial_config
from study.plan import make_plan
from study.records import COMPLETE, FAILED, PRUNED, SEARCH
from study.search.ledger import Ledger

RUNG = 2
STOPPED_EARLY = (
    "resources.workers=2",
    "search.method=random",
    "search.early_stopping={method: asha, first_rung: 2, reduction_factor: 3}",
)


def workers() -> list[psutil.Process]:
    """Train's worker processes below this one."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "RayTrainWorker" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def actors_of_trials() -> list[str]:
    names = (
        *("StudyTrial", "ResourceTrainable", "TrialController", "RayTrainWorker", "SynchronizationActor"),
        *("PlacementGroupCleaner", "AutoscalingCoordinatorActor", "PreemptionWatcher"),  # what Train would add
    )
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            line = " ".join(process.cmdline())
        except psutil.Error:
            continue
        found += [line for name in names if f"ray::{name}" in line or f"ray::_{name}" in line]
    return found


@pytest.mark.parametrize("count", [3, pytest.param(30, marks=pytest.mark.proof)])
def test_stopped_trials_leave_nothing(count: int, small: Callable[..., Any], unbeatable: Any, eventually: Any) -> None:
    sweep = small(f"search.trials={count}", *STOPPED_EARLY)
    plan = make_plan(sweep.spec)
    assert plan.blocks[0].rungs == (RUNG,)

    records = sweep.run(earlier=unbeatable(plan, rung=RUNG))

    searched = [record for record in records if record.phase == SEARCH]
    assert [(record.state, record.epochs) for record in searched] == [(PRUNED, RUNG)] * count
    assert {frozenset(record.curve) for record in searched} == {frozenset({1, RUNG})}
    assert [(record.state, record.epochs) for record in records if record.phase != SEARCH] == [(COMPLETE, 4)]
    assert eventually(lambda: ray.available_resources().get("CPU") == 2.0, 5)
    assert eventually(lambda: all(g["state"] == "REMOVED" for g in placement_group_table().values()), 5)
    assert eventually(lambda: not actors_of_trials(), 5), actors_of_trials()
    assert not list(sweep.home.folder.glob("trials/*_t*/checkpoints"))


def test_a_lost_worker_and_a_stop_change_nothing(
    small: Callable[..., Any], two_processes: Any, without_times: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = small(
        "resources.workers=2",
        "train.epochs=40",
        "train.checkpoint_every_epochs=1",
        "search.trials=1",
        "confirm.seeds=1",
    )
    killed: list[int] = []
    take = Coordinator.take_reports

    def kill_once(self: Coordinator, key: str, reports: Any) -> None:
        take(self, key, reports)
        if not killed and key.endswith("/t0") and 8 <= reports[-1]["epoch"] < 30:
            killed.append(int(reports[-1]["epoch"]))
            os.kill(max(process.pid for process in workers()), signal.SIGKILL)

    monkeypatch.setattr(Coordinator, "take_reports", kill_once)

    records = sweep.run()

    assert killed
    assert [(record.state, record.epochs) for record in records] == [(COMPLETE, 40)] * 2
    plan = make_plan(sweep.spec)
    job = Ledger(sweep.home.ledger, plan, sweep.spec.search).jobs()[0][0]
    config = {**trial_config(sweep.spec, plan, job).to_dict(), "device": "cpu"}
    assert config["workers"] == 2
    expected = [without_times(report) for report in two_processes(config)]
    seen = sweep.tracker.reports[job.key]
    # What was trained again: epochs that were told twice, with another time each. From a checkpoint they are repeated.
    told = Counter((report["epoch"], report["epoch_seconds"]) for report in seen)
    assert sum(count - 1 for count in Counter(epoch for epoch, _ in told).values()) <= 1
    latest = {report["epoch"]: without_times(report) for report in seen}
    assert [latest[epoch] for epoch in sorted(latest)] == expected
    lines = (sweep.home.trial(job.folder) / "reports.jsonl").read_text().splitlines()
    assert len(lines) == 40
    assert "was lost" in (sweep.home.trial(job.folder) / "error.txt").read_text()


def test_a_stop_request_keeps_a_group_s_trial_resumable(
    small: Callable[..., Any], run_until_stopped: Any, two_processes: Any, without_times: Any
) -> None:
    sweep = small("resources.workers=2", "train.epochs=60", "search.trials=1", "train.checkpoint_every_epochs=1000")
    cut = run_until_stopped(sweep)
    assert [record.state for record in cut] == ["running"]
    assert 0 < cut[0].epochs < 60
    assert list(sweep.home.trial("lars_B1077_r0_t0").glob("checkpoints/*.pt"))

    records = sweep.run()

    assert [record.state for record in records] == [COMPLETE, COMPLETE]
    plan = make_plan(sweep.spec)
    job = Ledger(sweep.home.ledger, plan, sweep.spec.search).jobs()[0][0]
    told = {report["epoch"]: without_times(report) for report in sweep.tracker.reports[job.key]}
    expected = two_processes({**trial_config(sweep.spec, plan, job).to_dict(), "device": "cpu"})
    assert [told[epoch] for epoch in sorted(told)] == [without_times(report) for report in expected]


def test_what_a_worker_raises_is_told_and_tried_again(small: Callable[..., Any]) -> None:
    sweep = small("resources.workers=2", "resources.retries=0", "search.trials=1")
    plant_other_checkpoint(sweep.home.trial("lars_B1077_r0_t0") / "checkpoints", sweep)

    records = sweep.run()

    assert [record.state for record in records] == [FAILED, COMPLETE, COMPLETE]  # its replacement, and the winner
    text = (sweep.home.trial("lars_B1077_r0_t0") / "error.txt").read_text()
    assert "CheckpointMismatchError" in text
    assert 'loop.py", line' in text


def plant_other_checkpoint(folder: Path, sweep: Any) -> None:
    """One of another seed: the loop refuses it."""
    from trainables.config import TrialConfig
    from trainables.loop import train

    plan = make_plan(sweep.spec)
    job = Job(0, plan.cells[0], 0, SEARCH, 0, {"base_lr": 1.0, "weight_decay": 1e-4}, 7)
    config: Mapping[str, Any] = trial_config(sweep.spec, plan, job).to_dict()
    train(
        TrialConfig.from_dict({**config, "device": "cpu", "workers": 1, "epochs": 1}),
        lambda report: None,
        checkpoint_dir=folder,
    )
