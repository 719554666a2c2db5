"""Stores that are dead, slow, or refuse: nothing is lost, nothing stands twice, and the study never waits."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from study.records import Ending
from study.tracking import tracker as tracker_module
from study.tracking.mlflow_runs import MlflowRuns
from study.tracking.spool import Spool
from study.tracking.tracker import RunStore, Tracker

MakeEnding = Callable[..., Ending]
Study = Any  # conftest.Study
SECONDS = 60.0
CELL_KEY = "cell:lars/B64"


def _all_of_it(study: Study, tracker: Tracker, make_ending: MakeEnding, trials: int = 3) -> None:
    for index in range(trials):
        job = study.job(index)
        tracker.begin_trial(job, {"base_lr": 1.5})
        tracker.trial_reports(job, study.reports(1, 3))
        tracker.end_trial(job, make_ending())
    tracker.end_study(study.name, {"trials": float(trials)}, [], status="FINISHED")


def _assert_all_there(study: Study, trials: int = 3) -> None:
    runs = study.runs()
    assert set(runs) == {"study", CELL_KEY, *(study.job(index).key for index in range(trials))}
    for index in range(trials):
        key = study.job(index).key
        assert runs[key].info.status == "FINISHED"
        assert runs[key].data.tags["study.outcome"] == "complete"
        assert runs[key].data.params == {"base_lr": "1.5"}
        for metric in ("val/loss", "val/accuracy"):
            assert [step for step, _ in study.steps(key, metric)] == [1, 2, 3]
    assert runs["study"].data.metrics == {"trials": float(trials)}


def test_a_dead_server_costs_nothing_but_a_later_delivery(study: Study, make_ending: MakeEnding) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]  # nobody listens there
    dead = MlflowRuns(f"http://127.0.0.1:{port}", study.name, study.folder, "x")
    tracker = study.session(lambda: dead)
    _all_of_it(study, tracker, make_ending)
    trouble = tracker.close(SECONDS)
    assert trouble is not None
    assert "\n" not in trouble
    assert str(port) in trouble
    assert study.spool.exists()

    resumed = study.session()
    assert resumed.close(SECONDS) is None
    assert not study.spool.exists()
    _assert_all_there(study)


def test_a_store_that_comes_back_during_the_session(
    study: Study, make_ending: MakeEnding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracker_module, "FLUSH_SECONDS", 0.05)
    monkeypatch.setattr(tracker_module, "RETRY_SECONDS", 0.05)
    tried = threading.Semaphore(0)
    failures = 3

    def make_store() -> RunStore:
        nonlocal failures
        tried.release()
        if failures > 0:
            failures -= 1
            raise ConnectionError("not yet")
        return study.store()

    tracker = study.session(make_store)
    for index in range(3):  # something new between any two failures: none of it may be lost
        assert tried.acquire(timeout=20)
        job = study.job(index)
        tracker.begin_trial(job, {"base_lr": 1.5})
        tracker.trial_reports(job, study.reports(1, 3))
        tracker.end_trial(job, make_ending())
    assert tried.acquire(timeout=20)
    tracker.end_study(study.name, {"trials": 3.0}, [], status="FINISHED")
    assert tracker.close(SECONDS) is None
    assert not study.spool.exists()
    _assert_all_there(study)


@pytest.mark.parametrize("torn", [False, True])
def test_a_session_that_ends_while_the_store_hangs(study: Study, torn: bool, make_ending: MakeEnding) -> None:
    hang = threading.Event()

    def make_store() -> RunStore:
        hang.wait(SECONDS)
        raise ConnectionError("never")

    tracker = study.session(make_store)
    _all_of_it(study, tracker, make_ending)
    assert tracker.close(0.1) == "MLflow is still answering slowly"
    if torn:  # by a kill in the middle of a line
        with study.spool.open("a") as file:
            file.write('{"key": "lars/B64/r1/t0", "par')
    kept = study.folder / "kept"
    kept.write_bytes(study.spool.read_bytes())
    hang.set()
    tracker._thread.join()
    assert study.spool.read_bytes() == kept.read_bytes()

    assert study.session().close(SECONDS) is None
    _assert_all_there(study)
    # Delivered, but killed before the file was removed: telling it all again changes nothing.
    kept.replace(study.spool)
    assert study.session().close(SECONDS) is None
    _assert_all_there(study)


def test_a_run_that_the_store_refuses_does_not_stand_in_the_way(study: Study, make_ending: MakeEnding) -> None:
    tracker = study.session()
    refused = [study.job(index) for index in range(10, 15)]
    for job in refused:
        tracker.begin_trial(job, {})
        tracker.trial_reports(job, [{"epoch": 1.0, "no such name!": 1.0}])
    _all_of_it(study, tracker, make_ending)
    trouble = tracker.close(SECONDS)
    assert trouble is not None
    assert "no such name!" in trouble
    assert {notes.key for notes in Spool(study.spool).read()} >= {job.key for job in refused}
    runs = study.runs()
    assert all(runs[study.job(index).key].info.status == "FINISHED" for index in range(3))
    assert runs["study"].data.metrics == {"trials": 3.0}


def test_a_deleted_experiment_is_named(study: Study) -> None:
    assert study.session().close(SECONDS) is None
    client = study.client()
    client.delete_experiment(client.get_experiment_by_name(study.name).experiment_id)
    trouble = study.session().close(SECONDS)
    assert trouble is not None
    assert f"the experiment '{study.name}' is deleted in MLflow" in trouble
