"""Early stopping as Tune calls it, without a cluster: per search, on common rungs, rebuilt after a kill."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from study.plan import make_plan
from study.records import COMPLETE, CONFIRM, DIVERGED, PRUNED, RUNNING, SEARCH
from study.rungs import RungLog
from study.search.ledger import Ledger
from study.spec import Spec
from study.sweep.scheduler import EPOCH, EarlyStopping

METRIC = "val/accuracy"
STOPPING = {"method": "asha", "first_rung": 2, "reduction_factor": 2}


class Study:
    """A plan of two cells, its jobs and a scheduler that is asked as Tune asks it."""

    def __init__(self, spec: Spec, folder: Path) -> None:
        self.spec, self.folder = spec, folder
        self.plan = make_plan(spec)
        self.ledger = Ledger(folder / "optuna.log", self.plan, spec.search)
        self.jobs = {job.key: job for job, _ in self.ledger.jobs()}
        self.scheduler = EarlyStopping(
            self.jobs.__getitem__, METRIC, spec.search.early_stopping, RungLog(folder / "rungs.jsonl")
        )

    def begin(self, arm: str = "lars", phase: str = SEARCH) -> Any:
        cell = next(cell for cell in self.plan.cells if cell.arm == arm)
        if phase == SEARCH:
            job = self.ledger.begin_search_trial(cell, 0)
        else:
            job = self.ledger.begin_run(cell, 0, phase, self.ledger.record(0))
        self.jobs[job.key] = job
        return job

    def ask(self, job: Any, epoch: int, value: float) -> bool:
        trial = SimpleNamespace(config={"job": job.key})
        answer = self.scheduler.on_trial_result(None, trial, {EPOCH: epoch, METRIC: value})
        return answer == TrialScheduler.CONTINUE

    def report(self, job: Any, epoch: int, value: float) -> bool:
        """The scheduler is asked first, then the ledger is told, as in Tune."""
        goes_on = self.ask(job, epoch, value)
        self.ledger.report(job, {epoch: value})
        return goes_on

    def again(self) -> Study:
        """The next session."""
        study = Study(self.spec, self.folder)
        study.scheduler.replay(study.ledger.jobs())
        return study

    def recorded(self, job: Any) -> Any:
        return self.scheduler.rungs_of(job).recorded()


@pytest.fixture
def study(tmp_path: Path, make_spec: Callable[..., Spec]) -> Study:
    search = {"trials": 9, "repeats": 1, "method": "random", "early_stopping": STOPPING}
    return Study(make_spec(search=search), tmp_path)


def test_cells_do_not_share_their_rungs(study: Study) -> None:
    for value in (0.9, 0.9, 0.9):
        assert study.report(study.begin("lars"), 2, value)
    slow = study.begin("sgd")
    assert study.report(slow, 2, 0.1)
    assert not study.report(study.begin("lars"), 2, 0.1)
    assert study.recorded(slow)[2] == {slow.key: 0.1}


def test_other_phases_are_never_stopped(study: Study) -> None:
    for _ in range(5):
        study.report(study.begin(), 2, 0.9)
    confirm = study.begin(phase=CONFIRM)
    assert study.report(confirm, 2, 0.0)
    assert study.scheduler.rungs_of(confirm) is None


def test_rungs_are_as_before_after_a_kill(study: Study, make_ending: Any) -> None:
    jobs = [study.begin() for _ in range(5)]
    for job, value in zip(jobs, (0.5, 0.9, 0.7, 0.2, 0.8), strict=True):
        if not study.report(job, 2, value):
            study.ledger.end(job, make_ending(PRUNED, value, epochs=2))
    study.report(jobs[1], 4, 0.95)
    study.ledger.end(jobs[1], make_ending(COMPLETE, 0.97))
    study.scheduler.on_trial_complete(
        None, SimpleNamespace(config={"job": jobs[4].key}), {"outcome/status": DIVERGED, EPOCH: 3, METRIC: 0.1}
    )
    study.ledger.end(jobs[4], make_ending(DIVERGED, 0.1, epochs=3))
    before = study.recorded(jobs[0])
    assert before[4] == {jobs[1].key: 0.95, jobs[4].key: 0.1}
    assert before[8] == {jobs[4].key: 0.1}

    for session in (study.again(), study.again().again()):
        assert session.recorded(jobs[0]) == before
    (study.folder / "rungs.jsonl").unlink()  # the ledger alone knows as much
    assert study.again().recorded(jobs[0]) == before


def test_a_verdict_that_the_ledger_missed_still_holds(study: Study) -> None:
    """Killed after the verdict, before the ledger had the value: the trial is not tried at that rung once more."""
    for value in (0.9, 0.8, 0.7):
        study.report(study.begin(), 2, value)
    cut = study.begin()
    study.ledger.report(cut, {1: 0.1})
    assert not study.ask(cut, 2, 0.1)
    session = study.again()
    verdict = session.scheduler.stops(cut, session.ledger.record(cut.number))
    assert verdict is not None
    assert (verdict.epoch, verdict.value, verdict.goes_on) == (2, 0.1, False)
    assert not session.ask(cut, 2, 0.1)


def test_a_trial_that_was_let_go_on_is_not_judged_again(study: Study) -> None:
    early = study.begin()
    assert study.report(early, 2, 0.1)  # alone at its rung
    for value in (0.9, 0.8, 0.7):
        study.report(study.begin(), 2, value)
    session = study.again()
    assert session.scheduler.stops(early, session.ledger.record(early.number)) is None
    assert session.ask(early, 2, 0.1)


def test_a_trial_that_was_cut_off_at_a_rung_gets_its_verdict_on_resume(study: Study) -> None:
    for value in (0.9, 0.8, 0.7):
        study.report(study.begin(), 2, value)
    low, high, passed = study.begin(), study.begin(), study.begin()
    study.ledger.report(low, {2: 0.1})
    study.ledger.report(high, {2: 0.95})
    assert study.report(passed, 2, 0.99)
    study.ledger.report(passed, {3: 0.01})
    session = study.again()
    stops = {job.key: session.scheduler.stops(job, session.ledger.record(job.number)) for job in (low, high, passed)}
    assert [key for key, verdict in stops.items() if verdict] == [low.key]
    assert session.ask(passed, 2, 0.99)  # from its checkpoint it may come by once more
    assert len(RungLog(study.folder / "rungs.jsonl").read()) == 6  # each verdict once


def test_median(study: Study, make_spec: Callable[..., Spec], tmp_path: Path) -> None:
    stopping = {**STOPPING, "method": "median"}
    (tmp_path / "median").mkdir()
    other = Study(make_spec(search={"trials": 9, "repeats": 1, "early_stopping": stopping}), tmp_path / "median")
    assert [other.report(other.begin(), 2, value) for value in (0.1, 0.5, 0.9, 0.4, 0.6)] == [
        True,
        True,
        True,
        False,
        True,
    ]


def test_nothing_is_stopped_where_nothing_was_asked_for(make_spec: Callable[..., Spec], tmp_path: Path) -> None:
    study = Study(make_spec(), tmp_path)
    assert all(study.report(study.begin(), epoch, 0.0) for epoch in range(1, 6))
    assert not (tmp_path / "rungs.jsonl").exists()


def test_a_record_says_what_was_decided(study: Study) -> None:
    job = study.begin()
    record = replace(study.ledger.record(0), curve={2: 0.3}, epochs=2)
    assert record.state == RUNNING
    study.scheduler.replay([(job, record)])
    assert study.scheduler.stops(job, record) is None  # alone at its rung it goes on


def test_a_trial_whose_actor_is_on_its_way_is_not_given_a_reused_one(study: Study) -> None:
    waiting = SimpleNamespace(status="PENDING")
    controller: Any = SimpleNamespace(get_trials=lambda: [waiting])
    assert FIFOScheduler().choose_trial_to_run(controller) is waiting  # else Tune has changed, and the override may go
    assert study.scheduler.choose_trial_to_run(controller) is None  # type: ignore[func-returns-value]
