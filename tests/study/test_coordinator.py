"""What the driver does with a user's requests, between the sweep and the ledger."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from study.control import Control
from study.coordinator import Coordinator
from study.home import StudyHome
from study.look import open_study
from study.plan import make_plan
from study.progress import Progress
from study.records import COMPLETE, PRUNED, RUNNING, STOPPED_BY_USER
from study.search.ledger import Ledger
from study.spec import Spec


class Silent:
    """A tracker that nobody listens to."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments, **named: None


class Driven:
    """A coordinator on a real ledger, and what the console saw."""

    def __init__(self, spec: Spec, place: StudyHome) -> None:
        plan = make_plan(spec)
        self.out = io.StringIO()
        self.ledger = Ledger(place.ledger, plan, spec.search)
        tracker: Any = Silent()
        self.coordinator = Coordinator(spec, plan, place, self.ledger, tracker, Progress(plan, out=self.out))
        self.control = Control(place.control)

    def start(self) -> str:
        job = self.coordinator.start_job()
        assert job is not None
        return job.key

    def report(self, key: str, epochs: int, value: float = 0.5) -> None:
        reports = [{"epoch": float(epoch), "val/accuracy": value} for epoch in range(1, epochs + 1)]
        self.coordinator.take_reports(key, reports)


@pytest.fixture
def driven(make_spec: Callable[..., Spec], begin_home: Callable[..., StudyHome]) -> Driven:
    return Driven(make_spec(), begin_home([]))


def test_a_trial_ends_when_the_user_asks(driven: Driven, tmp_path: Path) -> None:
    lars, sgd = driven.start(), driven.start()
    driven.report(lars, 4)
    assert not driven.coordinator.stop_asked(lars)
    driven.control.stop_trial(lars)
    assert driven.coordinator.stop_asked(lars)
    assert not driven.coordinator.stop_asked(sgd)
    driven.coordinator.end_pruned(lars)
    driven.coordinator.end_pruned(sgd)
    first, second, *_ = open_study("tiny", home=tmp_path / "studies").trials
    assert (first.state, first.reason, first.epochs, first.value) == (PRUNED, STOPPED_BY_USER, 4, 0.5)
    assert (second.state, second.reason) == (PRUNED, None)  # a rung's verdict
    assert f"{lars} {STOPPED_BY_USER}" in driven.out.getvalue()
    assert sgd not in driven.out.getvalue()


def test_a_trial_that_ends_before_it_is_stopped(driven: Driven) -> None:
    key = driven.start()
    driven.report(key, 10)
    driven.control.stop_trial(key)
    driven.coordinator.end_trained(key, "complete", None)
    (record,) = driven.ledger.records()
    assert (record.state, record.reason) == (COMPLETE, None)


def test_a_cell_starts_nothing_further_from_the_next_tick_on(driven: Driven, tmp_path: Path) -> None:
    driven.start()
    driven.control.stop_cell("lars/B64")
    driven.coordinator.tick()
    driven.coordinator.tick()
    assert driven.out.getvalue().count("lars/B64 starts no further trials: stopped by the user") == 1
    started = []
    while (job := driven.coordinator.start_job()) is not None:
        started.append(job.key)
    assert len(started) == 2 * 3
    assert all(key.startswith("sgd/") for key in started)
    record = open_study("tiny", home=tmp_path / "studies")
    assert record.stopped_cells == ("lars/B64",)
    assert {trial.state for trial in record.trials} == {RUNNING}
    driven.control.go_on_with_cell("lars/B64")
    driven.coordinator.tick()
    assert driven.start().startswith("lars/")


def test_a_cell_that_was_stopped_before_the_driver_began(
    make_spec: Callable[..., Spec], begin_home: Callable[..., StudyHome]
) -> None:
    place = begin_home([])
    Control(place.control).stop_cell("lars/B64")
    assert Driven(make_spec(), place).start() == "sgd/B64/r0/t0"
