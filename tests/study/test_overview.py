"""How far a study is, in numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from study.overview import (
    AUDITING,
    CONFIRMING,
    DONE,
    RERANKING,
    SEARCHING,
    SHORT,
    STOPPED,
    TO_COME,
    WAITING,
    devices_of,
    overview,
)
from study.records import (
    AUDIT,
    COMPLETE,
    CONFIRM,
    DIVERGED,
    FAILED,
    PRUNED,
    RERANK,
    RUNNING,
    SEARCH,
    TOP_UP,
    StudyRecord,
)

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
    failed = sum(trial.epochs for trial in record.trials if trial.state == FAILED)
    assert tvlars.epochs_planned == 2 * 7 * 20 + failed
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


def test_what_is_left_includes_re_ranking(make_record: Records) -> None:
    planned = {"search": {"trials": 4, "repeats": 1}, "confirm": {"seeds": 1, "rerank": 2}}
    record = make_record(arms=("lars_warmup",), repeats=1, spec=planned, finished=False)
    ended = [replace(t, state=COMPLETE, epochs=20, wall_seconds=10.0) for t in record.trials if t.phase == SEARCH]
    fresh = replace(ended[0], number=4, phase=RERANK, state=RUNNING, epochs=5, wall_seconds=0.0, of=0)
    (cell,) = overview(replace(record, trials=(*ended, fresh))).cells
    assert (cell.state, cell.searched) == (RERANKING, 4)
    assert cell.seconds_left == pytest.approx(2 * 10 - 2.5 + 10)  # two fresh runs, less a quarter, and a confirm run


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
        (RERANK, RUNNING, RERANKING),
        (AUDIT, RUNNING, AUDITING),
        (SEARCH, PRUNED, WAITING),
        (SEARCH, FAILED, WAITING),
    ],
)
def test_states_of_a_cell(make_record: Records, phase: str, state: str, expected: str) -> None:
    record = make_record(arms=("lars", "sgd"), repeats=1, trials=2, finished=False)
    (one, *_) = record.of_cell("lars/B1077", SEARCH)
    assert overview(replace(record, trials=(replace(one, phase=phase, state=state),))).cells[0].state == expected


def test_a_stopped_cell(make_record: Records) -> None:
    record = make_record(arms=("lars", "sgd"), repeats=1, trials=3, finished=False)
    kept = tuple(trial for trial in record.trials if trial.index == 0 and trial.phase == SEARCH)
    found = overview(replace(record, trials=kept, stopped_cells=("lars/B1077",)))
    assert [cell.state for cell in found.cells] == [STOPPED, WAITING]
    assert found.cells[0].seconds_left == 0.0
    whole = overview(replace(record, stopped_cells=("lars/B1077",)))
    assert whole.cells[0].state == DONE  # it was stopped too late


def test_what_began_beyond_the_plan_is_in_what_is_spent_at_most(make_record: Records) -> None:
    """Audits, further trials and replacements: no more is ever done than there is to do, nor spent than at most."""
    record = make_record(arms=("lars",), repeats=2, trials=3)
    trials = [replace(t, state=COMPLETE, epochs=20, wall_seconds=2.0) for t in record.trials]
    first = trials[0]
    number = len(trials)
    audit = replace(first, number=number, phase=AUDIT, of=0)
    further = replace(first, number=number + 1, index=3, origin=TOP_UP)
    crash = replace(first, number=number + 2, index=4, state=FAILED, epochs=7, wall_seconds=1.0)
    found = overview(replace(record, trials=(*trials, audit, further, crash)))
    (cell,) = found.cells
    assert (found.settled, found.trials_planned) == (10, 2 * 4 + 2)
    assert (cell.searched, cell.search_quota) == (7, 7)
    assert cell.epochs == cell.epochs_planned == 10 * 20 + 7
    assert cell.device_seconds == cell.device_seconds_planned == pytest.approx(10 * 2 + 1)
    # One repeat's further trial does not stand in for one that the other repeat lacks.
    lacks = [t for t in trials if (t.repeat, t.index, t.phase) != (1, 2, SEARCH)]
    (short,) = overview(replace(record, trials=(*lacks, further))).cells
    assert (short.state, short.searched, short.search_quota) == (SHORT, 6, 7)


def test_device_seconds_of_cut_off_trials_count(make_record: Records) -> None:
    """The ledger knows the time of trials that ended; a session also noted that of those it cut off."""
    record = make_record(arms=("lars",), repeats=1, trials=2)
    wall = sum(trial.wall_seconds for trial in record.trials)
    (noted,) = overview(replace(record, device_seconds={"lars/B1077": wall + 30.0})).cells
    assert noted.device_seconds == wall + 30.0
    (killed,) = overview(replace(record, device_seconds={"lars/B1077": wall - 1.0})).cells
    assert killed.device_seconds == pytest.approx(wall)


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
