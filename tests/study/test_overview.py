"""How far a study is, in numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from study.overview import CONFIRMING, DONE, SEARCHING, SHORT, STOPPED, TO_COME, WAITING, devices_of, overview
from study.records import COMPLETE, CONFIRM, DIVERGED, FAILED, PRUNED, RUNNING, SEARCH, StudyRecord

Records = Callable[..., StudyRecord]


def test_a_finished_study(make_record: Records) -> None:
    record = make_record(arms=("lars", "lars_warmup", "tvlars"), repeats=2, trials=6)
    found = overview(record)
    assert found.trials_planned == 3 * 2 * (6 + 1)
    assert found.settled == len(record.trials) - 1  # tvlars, repeat 1, trial 3 failed and was not replaced
    assert [cell.state for cell in found.cells] == [DONE, DONE, SHORT]
    lars, _, tvlars = found.cells
    assert (lars.searched, lars.search_quota, lars.confirmed, lars.confirm_quota) == (12, 12, 2, 2)
    assert (lars.pruned, lars.diverged, lars.failed, lars.running) == (4, 2, 0, 0)
    assert (tvlars.searched, tvlars.failed) == (11, 1)
    mine = [trial for trial in record.trials if trial.cell == lars.name]
    assert lars.epochs == sum(trial.epochs for trial in mine)
    assert lars.epochs_planned == 2 * 7 * 20
    assert lars.device_seconds == pytest.approx(2.5 * len(mine))
    assert lars.best == max(t.value or 0 for t in mine if t.phase == SEARCH and t.state == COMPLETE)
    assert found.seconds_left is None  # nothing runs


def test_no_trial_yet(make_record: Records) -> None:
    found = overview(make_record(empty=True, finished=False))
    assert {cell.state for cell in found.cells} == {TO_COME}
    assert (found.settled, found.epochs, found.device_seconds, found.seconds_left) == (0, 0, 0, None)
    assert found.device_seconds_planned is None


def test_what_runs_and_what_is_left(make_record: Records) -> None:
    record = make_record(arms=("lars_warmup", "sgd_warmup"), repeats=1, trials=4, finished=False)
    warmup = [trial for trial in record.trials if trial.cell.startswith("lars_warmup")]
    # Of lars_warmup two search trials have ended, after 10 s and 20 epochs each, and one is half-way.
    ended = [replace(trial, state=COMPLETE, epochs=20, wall_seconds=10.0) for trial in warmup[:2]]
    half = replace(warmup[2], state=RUNNING, epochs=10, wall_seconds=0.0, value=None)
    found = overview(replace(record, trials=(*ended, half)))
    lars, sgd = found.cells
    assert (lars.state, sgd.state) == (SEARCHING, TO_COME)
    assert lars.device_seconds == pytest.approx(10 + 10 + 5)  # the half at half a second an epoch
    assert lars.device_seconds_planned == pytest.approx(5 * 20 * 0.5)
    assert lars.seconds_left == pytest.approx(10 * 2 - 5 + 10)  # two search trials and a confirm run, less the half
    assert sgd.seconds_left == pytest.approx(5 * 10)
    assert found.seconds_left == pytest.approx(25 + 50)  # one trial runs at a time
    assert found.device_seconds_planned == pytest.approx(100)


def test_trials_at_once_share_what_is_left(make_record: Records) -> None:
    record = make_record(arms=("lars_warmup", "sgd_warmup"), repeats=1, trials=4, finished=False)
    first, *others = [trial for trial in record.trials if trial.phase == SEARCH and trial.index < 2]
    ended = replace(first, state=COMPLETE, epochs=20, wall_seconds=10.0)
    running = [replace(trial, state=RUNNING, epochs=0, wall_seconds=0.0) for trial in others]
    found = overview(replace(record, trials=(ended, *running)))
    assert found.running == 3
    assert found.seconds_left == pytest.approx((4 + 5) * 10 / 3)  # nine trainings of ten seconds, three at a time


@pytest.mark.parametrize(
    ("phase", "state", "expected"),
    [
        (SEARCH, RUNNING, SEARCHING),
        (CONFIRM, RUNNING, CONFIRMING),
        (SEARCH, PRUNED, WAITING),
        (SEARCH, FAILED, WAITING),
    ],
)
def test_states_of_a_cell(make_record: Records, phase: str, state: str, expected: str) -> None:
    record = make_record(arms=("lars", "sgd"), repeats=1, trials=2, finished=False)
    (one, *_) = record.of_cell("lars/B1077", phase)
    assert overview(replace(record, trials=(replace(one, state=state),))).cells[0].state == expected


def test_a_stopped_cell(make_record: Records) -> None:
    record = make_record(arms=("lars", "sgd"), repeats=1, trials=3, finished=False)
    kept = tuple(trial for trial in record.trials if trial.index == 0 and trial.phase == SEARCH)
    found = overview(replace(record, trials=kept, stopped_cells=("lars/B1077",)))
    assert [cell.state for cell in found.cells] == [STOPPED, WAITING]
    assert found.cells[0].seconds_left == 0.0
    whole = overview(replace(record, stopped_cells=("lars/B1077",)))
    assert whole.cells[0].state == DONE  # it was stopped too late


def test_a_diverged_trial_fills_the_quota(make_record: Records) -> None:
    record = make_record(arms=("lars",), repeats=1, trials=2, all_diverged=True)
    (cell,) = overview(record).cells
    assert (cell.state, cell.searched, cell.diverged, cell.best) == (DONE, 2, 3, None)
    assert {trial.state for trial in record.trials} == {DIVERGED}


@pytest.mark.parametrize(
    ("resources", "devices"),
    [
        ({}, 1),
        ({"workers": 4, "gpus_per_worker": "auto"}, 4),
        ({"workers": 2, "gpus_per_worker": 0.5}, 1),
        ({"workers": 2, "gpus_per_worker": 0, "cpus_per_worker": 8}, 2),
        (None, 1),
    ],
)
def test_devices(resources: object, devices: float) -> None:
    assert devices_of(resources) == devices
