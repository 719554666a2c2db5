"""Thirty early-stopped trials in a row on a real Ray: no hang, and nothing is left behind."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import optuna
import psutil
import ray
from ray.util import placement_group_table

from study.plan import make_plan
from study.records import COMPLETE, PRUNED, SEARCH

RUNG = 2


def test_thirty_stopped_trials_leave_nothing(small: Callable[..., Any], unbeatable: Any, eventually: Any) -> None:
    sweep = small(
        "search.trials=30",
        "search.method=random",
        "search.early_stopping={method: asha, first_rung: 2, reduction_factor: 3}",
    )
    plan = make_plan(sweep.spec)
    assert plan.blocks[0].rungs == (RUNG,)
    processes_before = len(psutil.Process().children(recursive=True))

    records = sweep.run(earlier=unbeatable(plan, rung=RUNG))

    searched = [record for record in records if record.phase == SEARCH]
    assert [record.state for record in searched] == [PRUNED] * 30
    assert [record.epochs for record in searched] == [RUNG] * 30
    assert {frozenset(record.curve) for record in searched} == {frozenset({1, RUNG})}
    assert eventually(lambda: ray.available_resources().get("CPU") == 2.0, 5)
    groups = placement_group_table().values()
    assert eventually(lambda: all(g["state"] == "REMOVED" for g in placement_group_table().values()), 5), groups
    # Idle workers may wait for work; none of them is an actor any more.
    assert eventually(lambda: not trial_actors(), 5)
    assert len(psutil.Process().children(recursive=True)) <= processes_before + 2
    assert [record.state for record in records if record.phase != SEARCH] == [COMPLETE]
    stored = optuna.load_study(study_name="small/lars/B1077/r0", storage=storage(sweep))
    assert [trial.state for trial in stored.trials] == [optuna.trial.TrialState.PRUNED] * 30
    assert all(set(trial.intermediate_values) == {1, RUNG} for trial in stored.trials)
    assert not list(sweep.home.folder.glob("trials/*_t*/checkpoints"))
    assert not sweep.home.ray.exists()


def trial_actors() -> list[str]:
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            name = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if "StudyTrial" in name or "ResourceTrainable" in name:
            found.append(name)
    return found


def storage(sweep: Any) -> Any:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(str(sweep.home.ledger)))


def test_confirm_runs_are_never_stopped(small: Callable[..., Any]) -> None:
    sweep = small(
        "search.trials=4",
        "search.early_stopping={method: asha, first_rung: 1, reduction_factor: 2}",
    )
    records = sweep.run()
    confirm = [record for record in records if record.phase == "confirm"]
    assert [(record.state, record.epochs) for record in confirm] == [(COMPLETE, 4)]
    assert confirm[0].metrics["test/items"] == 360
    assert all("test/accuracy" not in record.metrics for record in records if record.phase == SEARCH)
    winner = max(
        (record for record in records if record.phase == SEARCH and record.state == COMPLETE),
        key=lambda record: record.value or 0,
    )
    assert dataclasses.asdict(confirm[0])["params"] == winner.params
    assert confirm[0].seed not in {record.seed for record in records if record.phase == SEARCH}
