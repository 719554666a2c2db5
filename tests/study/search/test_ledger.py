"""The ledger over a real journal file: what it keeps, and what it makes of every kind of interruption."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from search_spaces import Value
from study.jobs import Job, trial_seed
from study.plan import make_plan
from study.records import COMPLETE, CONFIRM, DIVERGED, FAILED, PRUNED, RUNNING, SEARCH, Ending
from study.search.ledger import Ledger
from study.spec import Spec

OpenLedger = Callable[..., Ledger]
MakeEnding = Callable[..., Ending]
TPE = {"trials": 12, "repeats": 1, "method": "tpe", "startup_trials": 3}


def _begin(ledger: Ledger, arm: str = "lars", repeat: int = 0) -> Job:
    cell = next(cell for cell in ledger._plan.cells if cell.arm == arm)
    return ledger.begin_search_trial(cell, repeat)


def _stored(path: Path, name: str) -> optuna.Study:
    """The study as anybody opens it."""
    return optuna.load_study(study_name=name, storage=JournalStorage(JournalFileBackend(str(path))))


def test_a_trial_from_ask_to_end(
    open_ledger: OpenLedger, make_ending: MakeEnding, make_spec: Callable[..., Spec]
) -> None:
    ledger = open_ledger()
    job = _begin(ledger)
    assert (job.number, job.index, job.repeat, job.phase) == (0, 0, 0, SEARCH)
    assert set(job.params) == {"base_lr", "weight_decay"}
    assert all(job.cell.dimensions[name].contains(value) for name, value in job.params.items())
    assert job.seed == trial_seed(make_plan(make_spec()), 0, SEARCH, 0)
    assert ledger.record(0).state == RUNNING

    ledger.report(job, {1: 0.2, 2: 0.3})
    ledger.report(job, {2: 0.9, 3: 0.4})  # epoch 2 is known: it stays
    assert ledger.record(0).curve == {1: 0.2, 2: 0.3, 3: 0.4}
    assert ledger.record(0).epochs == 3
    ledger.end(job, make_ending(value=0.4, epochs=3))
    (record,) = ledger.records()
    assert (record.state, record.value, record.epochs, record.wall_seconds) == (COMPLETE, 0.4, 3, 2.0)
    assert ledger.of_search("lars/B64", 0, SEARCH) == (record,)
    assert ledger.jobs() == ((job, record),)


def test_numbers_are_study_wide_and_indices_a_searchs_own(open_ledger: OpenLedger) -> None:
    ledger = open_ledger()
    jobs = [_begin(ledger), _begin(ledger, "sgd"), _begin(ledger), _begin(ledger, repeat=1)]
    confirm = ledger.begin_run(jobs[0].cell, 0, CONFIRM, ledger.record(0))
    assert [job.number for job in (*jobs, confirm)] == [0, 1, 2, 3, 4]
    assert [job.index for job in (*jobs, confirm)] == [0, 0, 1, 0, 0]
    assert confirm.params == jobs[0].params
    assert confirm.seed != jobs[0].seed
    assert confirm.phase == CONFIRM
    assert jobs[0].seed == jobs[1].seed  # arms are paired
    assert len({job.key for job in (*jobs, confirm)}) == 5


def test_what_optuna_is_told(open_ledger: OpenLedger, make_ending: MakeEnding, tmp_path: Path) -> None:
    ledger = open_ledger()
    ends = [
        make_ending(COMPLETE, 0.9),
        make_ending(PRUNED, 0.3, epochs=2),
        make_ending(DIVERGED, 0.1),
        make_ending(FAILED, None),
    ]
    for ending in ends:
        job = _begin(ledger)
        ledger.report(job, {1: 0.2, 2: 0.3})
        ledger.end(job, ending)
    winner = ledger.records()[0]
    ledger.end(ledger.begin_run(job.cell, 0, CONFIRM, winner), make_ending(COMPLETE, 0.8))

    study = _stored(tmp_path / "optuna.log", "tiny/lars/B64/r0")
    assert study.direction.name == "MAXIMIZE"
    states = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.COMPLETE, TrialState.FAIL]
    assert [trial.state for trial in study.trials] == states
    assert [trial.value for trial in study.trials] == [0.9, 0.3, 0.1, None]  # divergence has a price
    assert all(trial.intermediate_values == {1: 0.2, 2: 0.3} for trial in study.trials)
    assert study.best_params == winner.params
    confirm = _stored(tmp_path / "optuna.log", "tiny/lars/B64/r0/confirm")
    assert [trial.params for trial in confirm.trials] == [winner.params]


def test_reopened_it_hands_out_what_was_cut_off(open_ledger: OpenLedger, make_ending: MakeEnding) -> None:
    first = open_ledger()
    done, cut, pruned, other = _begin(first), _begin(first), _begin(first), _begin(first, "sgd", repeat=1)
    for job in (done, cut, pruned):
        first.report(job, {1: 0.2, 2: 0.25})
    first.end(done, make_ending(COMPLETE, 0.7, metrics={"val/accuracy": 0.7, "val/loss": 1.5}))
    first.end(pruned, make_ending(PRUNED, 0.25, epochs=2))
    confirm = first.begin_run(done.cell, 0, CONFIRM, first.record(done.number))
    before = first.records()

    second = open_ledger()
    assert second.records() == before
    assert second.cut_off == 3
    assert [second.take_up() for _ in range(4)] == [cut, other, confirm, None]
    assert second.cut_off == 0
    assert second.record(cut.number).curve == {1: 0.2, 2: 0.25}
    second.report(cut, {2: 0.99, 3: 0.3})
    second.end(cut, make_ending(DIVERGED, 0.1, epochs=3))
    new = _begin(second)
    assert (new.number, new.index) == (5, 3)

    third = open_ledger()
    assert third.record(cut.number).curve == {1: 0.2, 2: 0.25, 3: 0.3}
    assert third.record(cut.number).reason == "the loss was nan at step 3"
    assert [third.take_up() for _ in range(3)] == [other, confirm, new]


def test_every_kind_of_parameter_comes_back_exactly(open_ledger: OpenLedger) -> None:
    space = {
        "lars": {
            "base_lr": {"low": 1e-3, "high": 10, "log": True},
            "momentum": {"values": [0.5, 0.9]},
            "nesterov": {"values": [True, False]},
            "batch_size": {"low": 8, "high": 64, "int": True},
            "init": {"values": ["default", "xavier_normal"]},
        }
    }
    job = _begin(open_ledger(space=space))
    again = open_ledger(space=space).take_up()
    assert again == job
    assert again is not None
    types: dict[str, type] = {name: type(value) for name, value in again.params.items()}
    assert types == {name: type(value) for name, value in job.params.items()}
    assert types["batch_size"] is int


@pytest.mark.parametrize("keep", [1, 20, -1])
def test_a_torn_last_line_is_dropped(keep: int, open_ledger: OpenLedger, tmp_path: Path) -> None:
    ledger = open_ledger()
    job = _begin(ledger)
    ledger.report(job, {1: 0.2})
    path = tmp_path / "optuna.log"
    whole = path.read_bytes()
    ledger.report(job, {2: 0.3})
    written = path.read_bytes()
    path.write_bytes(written[: len(whole) + keep] if keep > 0 else written[:-1])

    again = open_ledger()
    assert path.read_bytes() == whole
    assert again.take_up() == job
    assert again.record(0).curve == {1: 0.2}
    again.report(job, {2: 0.3})
    assert open_ledger().record(0).curve == {1: 0.2, 2: 0.3}


def test_a_stale_lock_file_is_no_obstacle(open_ledger: OpenLedger, tmp_path: Path) -> None:
    job = _begin(open_ledger())
    lock = tmp_path / "optuna.log.lock"
    os.symlink(tmp_path / "optuna.log", lock)  # as Optuna's journal makes it
    begun = time.monotonic()
    again = open_ledger()
    assert again.take_up() == job
    _begin(again)
    assert time.monotonic() - begun < 20  # Optuna itself would wait for 30 s
    assert not lock.is_symlink()


@pytest.mark.parametrize("state", [COMPLETE, DIVERGED, PRUNED, FAILED])
def test_ended_but_not_told(state: str, open_ledger: OpenLedger, make_ending: MakeEnding, tmp_path: Path) -> None:
    ledger = open_ledger()
    job = _begin(ledger)
    ledger.report(job, {1: 0.2})
    ledger.end(job, make_ending(state, 0.2))
    settled = ledger.records()
    path = tmp_path / "optuna.log"
    lines = path.read_bytes().splitlines(keepends=True)
    assert "state" in json.loads(lines[-1])
    path.write_bytes(b"".join(lines[:-1]))

    again = open_ledger()
    assert again.cut_off == 0
    assert again.records() == settled
    told = _stored(path, "tiny/lars/B64/r0").trials[0]
    assert told.state.is_finished()
    assert told.value == (None if state == FAILED else 0.2)


def test_cut_off_at_any_line(open_ledger: OpenLedger, make_ending: MakeEnding, tmp_path: Path) -> None:
    """A kill between any two writes: nothing settled is lost, nothing is there twice, and the next session goes on."""
    ledger = open_ledger()
    for _ in range(2):
        job = _begin(ledger)
        ledger.report(job, {1: 0.2, 2: 0.3})
        ledger.end(job, make_ending(COMPLETE, 0.3))
    run = ledger.begin_run(job.cell, 0, CONFIRM, ledger.record(job.number))
    ledger.end(run, make_ending(COMPLETE, 0.4))
    path = tmp_path / "optuna.log"
    lines = path.read_bytes().splitlines(keepends=True)
    full = {record.number: record for record in ledger.records()}
    settled = 0
    for length in range(len(lines) + 1):
        path.write_bytes(b"".join(lines[:length]))
        again = open_ledger()
        records = again.records()
        assert [record.number for record in records] == list(range(len(records)))
        finished = [record for record in records if record.finished]
        assert all(record == full[record.number] for record in finished)
        assert len(finished) >= settled
        settled = len(finished)
        while (taken := again.take_up()) is not None:
            assert taken.params == full[taken.number].params
            again.end(taken, make_ending(COMPLETE, 0.3))
        following = again.begin_run(job.cell, 0, CONFIRM, full[job.number])
        assert following.params == job.params
        again.end(following, make_ending(COMPLETE, 0.5))
        reread = open_ledger()
        assert reread.cut_off == 0
        assert reread.records() == again.records()
    assert settled == 3


def _one_at_a_time(ledger: Ledger, count: int, make_ending: MakeEnding) -> list[dict[str, Value]]:
    """Ask and tell; the score says that a small weight decay is good."""
    found = []
    for _ in range(count):
        job = _begin(ledger)
        ledger.end(job, make_ending(COMPLETE, 1 - float(job.params["weight_decay"])))
        found.append(dict(job.params))
    return found


def test_one_trial_at_a_time_is_reproducible(open_ledger: OpenLedger, make_ending: MakeEnding) -> None:
    one = _one_at_a_time(open_ledger("a.log", search=TPE), 12, make_ending)
    assert one == _one_at_a_time(open_ledger("b.log", search=TPE), 12, make_ending)
    other = _one_at_a_time(open_ledger("c.log", search={**TPE, "seed": 1}), 12, make_ending)
    assert not any(params in one for params in other)


def test_searches_have_samplers_of_their_own(open_ledger: OpenLedger) -> None:
    ledger = open_ledger()
    points = [tuple(_begin(ledger, arm, repeat).params.values()) for arm in ("lars", "sgd") for repeat in (0, 1)]
    assert len(set(points)) == 4


@pytest.mark.parametrize("method", ["tpe", "random", "qmc"])
def test_a_resumed_sampler_does_not_repeat_itself(
    method: str, open_ledger: OpenLedger, make_ending: MakeEnding
) -> None:
    search = {**TPE, "method": method}
    first = _one_at_a_time(open_ledger(search=search), 5, make_ending)
    second = _one_at_a_time(open_ledger(search=search), 5, make_ending)
    third = _one_at_a_time(open_ledger(search=search), 2, make_ending)
    points = [tuple(params.values()) for params in (*first, *second, *third)]
    assert len(set(points)) == 12


def test_a_study_stored_the_other_way_round_is_refused(open_ledger: OpenLedger, tmp_path: Path) -> None:
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "optuna.log")))
    optuna.create_study(study_name="tiny/lars/B64/r0", storage=storage, direction="minimize")
    with pytest.raises(RuntimeError, match="stored as a study that minimises"):
        open_ledger()


def test_looking_writes_nothing(open_ledger: OpenLedger, make_ending: MakeEnding, tmp_path: Path) -> None:
    ledger = open_ledger()
    ledger.end(_begin(ledger), make_ending())
    _begin(ledger)
    before = (tmp_path / "optuna.log").read_bytes()
    assert open_ledger().records() == ledger.records()
    assert (tmp_path / "optuna.log").read_bytes() == before


def test_a_trial_that_another_asked_for_is_no_trial_of_the_study(open_ledger: OpenLedger, tmp_path: Path) -> None:
    ledger = open_ledger()
    job = _begin(ledger)
    study = _stored(tmp_path / "optuna.log", "tiny/lars/B64/r0")
    study.ask()
    again = open_ledger()
    assert again.records() == ledger.records()
    assert [again.take_up(), again.take_up()] == [job, None]
