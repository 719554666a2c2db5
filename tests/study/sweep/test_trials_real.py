"""What becomes of trials on a real Ray: reused actors, divergence, crashes, killed processes, repeatable studies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from study.coordinator import Coordinator
from study.jobs import trial_config
from study.plan import make_plan
from study.records import COMPLETE, DIVERGED, FAILED, PRUNED, SEARCH
from study.search.ledger import Ledger
from study.sweep.adapters import EventWire

FRESH = """
import json, sys
from trainables.config import TrialConfig
from trainables.loop import train
reports = []
train(TrialConfig.from_dict(json.load(sys.stdin)), reports.append)
print(json.dumps(reports))
"""


def fresh_process(config: dict[str, Any]) -> list[dict[str, float]]:
    """The same trial in a process that never ran another."""
    done = subprocess.run(
        [sys.executable, "-c", FRESH],
        input=json.dumps(config),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def told(sweep: Any, job: Any) -> list[dict[str, float]]:
    """The reports that the driver wrote down, in order."""
    lines = (sweep.home.trial(job.folder) / "reports.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_a_reused_actor_gives_the_result_of_a_fresh_process(
    small: Callable[..., Any], without_times: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids: dict[str, int] = {}
    seen = EventWire.on_trial_result

    def spy(self: Any, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any) -> None:
        pids[trial.config["job"]] = result["pid"]
        seen(self, iteration, trials, trial, result, **info)

    monkeypatch.setattr(EventWire, "on_trial_result", spy)
    sweep = small(
        "arms=[lars, tvlars, lamb_warmup, sgd_warmup]",
        "space.sgd_warmup.base_lr=1e37",  # diverges
        "search.trials=3",
        "search.early_stopping={method: asha, reduction_factor: 2}",
        "resources.max_concurrent=1",
    )
    records = sweep.run()

    states = {record.state for record in records}
    assert {COMPLETE, PRUNED, DIVERGED} <= states, states
    assert len(set(pids.values())) == 1, pids  # else nothing was reused and nothing is shown
    plan = make_plan(sweep.spec)
    jobs = {job.number: job for job, _ in Ledger(sweep.home.ledger, plan, sweep.spec.search).jobs()}
    # The last trials ran after the most others; one of each arm and each kind of ending.
    chosen = {(record.arm, record.state): record for record in records}.values()
    assert len(chosen) >= 6
    for record in chosen:
        job = jobs[record.number]
        config = {**trial_config(sweep.spec, plan, job).to_dict(), "device": "cpu"}
        alone = fresh_process(config)[: record.epochs]
        ours = sweep.tracker.reports[job.key]
        assert [without_times(report) for report in ours] == [without_times(report) for report in alone], job.key


def test_a_diverged_trial_is_a_result_and_the_study_goes_on(small: Callable[..., Any]) -> None:
    sweep = small("arms=[sgd_warmup, lars]", "space.sgd_warmup.base_lr=1e37")
    records = sweep.run()
    bad = [record for record in records if record.arm == "sgd_warmup"]
    good = [record for record in records if record.arm == "lars"]
    # Two searched and, since that an arm diverges is its result, one confirmed.
    assert [record.state for record in bad] == [DIVERGED] * 3
    assert [record.state for record in good] == [COMPLETE] * 3
    for record in bad:
        assert record.value == pytest.approx(0.1)  # chance
        assert record.metrics["diverged"] == 1.0
        assert record.reason
        assert "not finite" in record.reason or "nan" in record.reason or "inf" in record.reason
    assert bad[-1].metrics["test/accuracy"] == pytest.approx(0.1)


def test_a_trial_that_raises_is_tried_again_then_failed_and_replaced_once(small: Callable[..., Any]) -> None:
    sweep = small("resources.retries=2")
    sweep.home.create()
    # A checkpoint of some other trial where the first one keeps its own: the loop refuses it, each time.
    plant_foreign_checkpoint(sweep.home.trial("lars_B1077_r0_t0") / "checkpoints")

    records = sweep.run()

    states = [(record.phase, record.state) for record in records]
    assert states[0] == (SEARCH, FAILED)
    assert sorted(states[1:]) == [("confirm", COMPLETE), (SEARCH, COMPLETE), (SEARCH, COMPLETE)]
    assert records[0].value is None
    text = (sweep.home.trial("lars_B1077_r0_t0") / "error.txt").read_text()
    assert text.count("crashed, tried again") == 2
    assert text.count("failed\n") == 1
    assert 'File "' in text
    assert "\x1b" not in text
    assert "CheckpointMismatchError" in text
    assert records[0].reason is not None
    assert "checkpoint" in records[0].reason


def plant_foreign_checkpoint(folder: Path) -> None:
    from trainables.config import DataConfig, TrialConfig
    from trainables.loop import train

    config = TrialConfig(
        arm="lars",
        hyperparameters={"base_lr": 1.0, "weight_decay": 1e-4},
        data=DataConfig(),
        model="resnet8",
        task="classification",
        epochs=1,
        batch_size=1077,
        micro_batch_size=1077,
        seed=123,
    )
    train(config, lambda report: None, checkpoint_dir=folder)


def test_a_killed_trial_process_goes_on_from_its_checkpoint(
    small: Callable[..., Any], without_times: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = small("train.epochs=60", "train.checkpoint_every_epochs=1", "search.trials=1", "resources.max_concurrent=1")
    killed: list[int] = []
    take = Coordinator.take_reports

    def kill_once(self: Coordinator, key: str, reports: Any) -> None:
        take(self, key, reports)
        if not killed and key.endswith("/t0") and 10 <= reports[-1]["epoch"] < 50:
            killed.append(int(reports[-1]["epoch"]))
            for process in psutil.Process().children(recursive=True):
                if "ray::" in " ".join(process.cmdline()) and "Trial" in " ".join(process.cmdline() or [""]):
                    os.kill(process.pid, signal.SIGKILL)

    monkeypatch.setattr(Coordinator, "take_reports", kill_once)
    records = sweep.run()

    assert killed
    assert [record.state for record in records] == [COMPLETE, COMPLETE]
    plan = make_plan(sweep.spec)
    job = Ledger(sweep.home.ledger, plan, sweep.spec.search).jobs()[0][0]
    ours = told(sweep, job)
    assert [report["epoch"] for report in ours] == list(range(1, 61))  # each once
    alone = fresh_process({**trial_config(sweep.spec, plan, job).to_dict(), "device": "cpu"})
    assert [without_times(report) for report in ours] == [without_times(report) for report in alone]
    assert "crashed, tried again" in (sweep.home.trial(job.folder) / "error.txt").read_text()


def test_the_same_seed_gives_the_same_study(small: Callable[..., Any], without_times: Any) -> None:
    overrides = ("arms=[lars, tvlars]", "search.trials=4", "search.startup_trials=2", "resources.max_concurrent=1")
    first, second, other = (
        small(*overrides, name="first").run(),
        small(*overrides, name="second").run(),
        small(*overrides, "search.seed=1", name="other").run(),
    )

    def shape(records: Any) -> list[Any]:
        return [
            (r.number, r.cell, r.phase, r.state, r.params, r.seed, r.curve, without_times(r.metrics)) for r in records
        ]

    assert shape(first) == shape(second)
    assert shape(first) != shape(other)


def test_stop_request_keeps_trials_resumable(
    small: Callable[..., Any], run_until_stopped: Any, without_times: Any
) -> None:
    sweep = small("train.epochs=80", "search.trials=1", "train.checkpoint_every_epochs=1000")
    cut = run_until_stopped(sweep)
    assert [record.state for record in cut] == ["running"]
    reached = cut[0].epochs
    assert 0 < reached < 80
    assert list(sweep.home.trial("lars_B1077_r0_t0").glob("checkpoints/*"))

    records = sweep.run()

    assert [record.state for record in records] == [COMPLETE, COMPLETE]
    assert sorted(records[0].curve) == list(range(1, 81))
    plan = make_plan(sweep.spec)
    job = Ledger(sweep.home.ledger, plan, sweep.spec.search).jobs()[0][0]
    ours = told(sweep, job)
    assert [report["epoch"] for report in ours] == list(range(1, 81))
    alone = fresh_process({**trial_config(sweep.spec, plan, job).to_dict(), "device": "cpu"})
    assert [without_times(report) for report in ours] == [without_times(report) for report in alone]
