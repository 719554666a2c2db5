"""What stands in MLflow after a study, a crash or a resumed session."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from study.jobs import trial_config
from study.plan import make_plan
from study.records import COMPLETE, CONFIRM, DIVERGED, FAILED, PRUNED, Ending

MakeEnding = Callable[..., Ending]
Study = Any  # conftest.Study
SECONDS = 60.0
LARS = "lars/B64"
KEY = "lars/B64/r1/t0"
CELL_KEY = f"cell:{LARS}"


def test_runs_are_nested_and_say_what_they_are(study: Study, make_ending: MakeEnding) -> None:
    tracker = study.session()
    job, confirm = study.job(0), study.job(1, CONFIRM)
    config = trial_config(study.spec, make_plan(study.spec), job)
    tracker.begin_trial(job, {**config.to_dict(), "lr": config.lr})
    tracker.trial_facts(job, {"parameters": 77754, "device": "cpu"})
    tracker.trial_reports(job, study.reports(1, 3))
    tracker.end_trial(job, make_ending(DIVERGED, 0.1))
    tracker.begin_trial(confirm, {})
    tracker.trial_reports(confirm, [{"epoch": 10.0, "test/accuracy": 0.9}])
    tracker.end_trial(confirm, make_ending(COMPLETE, 0.9))
    tracker.end_cell(LARS, {"test/accuracy": 0.9, "epochs": 20.0})
    report = study.folder / "report.html"
    report.write_text("<html>")
    tracker.end_study(study.name, {"wall_seconds": 3.5}, [report, study.folder / "missing"], status="FINISHED")
    assert tracker.close(SECONDS) is None

    runs = study.runs()
    assert set(runs) == {"study", CELL_KEY, KEY, "lars/B64/r1/c1"}
    ids = {key: run.info.run_id for key, run in runs.items()}
    parents = {key: run.data.tags.get("mlflow.parentRunId") for key, run in runs.items()}
    assert parents == {"study": None, CELL_KEY: ids["study"], KEY: ids[CELL_KEY], "lars/B64/r1/c1": ids[CELL_KEY]}
    assert {key: run.data.tags["study.role"] for key, run in runs.items()} == {
        "study": "study",
        CELL_KEY: "cell",
        KEY: "trial",
        "lars/B64/r1/c1": "confirm",
    }
    for run in runs.values():
        assert (run.data.tags["study.name"], run.data.tags["study.spec_hash"]) == (study.name, "abc")
        assert run.info.status == "FINISHED"
        assert run.info.end_time >= run.info.start_time > 1e12
    assert runs["study"].data.tags["mlflow.note.content"] == "which?"
    trial = runs[KEY].data
    assert {name: trial.tags[f"study.{name}"] for name in ("cell", "arm", "repeat", "trial", "outcome")} == {
        "cell": LARS,
        "arm": "lars",
        "repeat": "1",
        "trial": "0",
        "outcome": "diverged",
    }
    assert trial.tags["study.reason"] == "the loss was nan at step 3"
    expected = {"base_lr": "1.5", "lr": str(1.5 * 64 / 256), "data.name": "digits", "parameters": "77754", "seed": "7"}
    assert expected.items() <= trial.params.items()
    assert study.steps(KEY, "val/accuracy") == [(1, 0.1), (2, 0.2), (3, pytest.approx(0.3))]
    assert "epoch" not in trial.metrics  # it is the step
    assert study.steps("lars/B64/r1/c1", "test/accuracy") == [(10, 0.9)]
    assert runs[CELL_KEY].data.metrics == {"test/accuracy": 0.9, "epochs": 20.0}
    assert runs["study"].data.metrics == {"wall_seconds": 3.5}
    assert [file.path for file in study.client().list_artifacts(ids["study"])] == ["report.html"]
    assert not study.spool.exists()


@pytest.mark.parametrize(("state", "status"), [(COMPLETE, "FINISHED"), (PRUNED, "FINISHED"), (FAILED, "FAILED")])
def test_outcomes(state: str, status: str, study: Study, make_ending: MakeEnding) -> None:
    tracker = study.session()
    tracker.begin_trial(study.job(0), {})
    tracker.end_trial(study.job(0), make_ending(state, None))
    assert tracker.close(SECONDS) is None
    run = study.runs()[KEY]
    assert (run.info.status, run.data.tags["study.outcome"]) == (status, state)


def test_only_finite_numbers_are_told(study: Study, make_ending: MakeEnding) -> None:
    tracker = study.session()
    job = study.job(0)
    tracker.begin_trial(job, {})
    tracker.trial_reports(job, [{"epoch": 1.0, "val/loss": math.inf, "train/loss": math.nan, "val/accuracy": 0.1}])
    tracker.end_trial(job, make_ending())
    tracker.end_cell(LARS, {"test/accuracy": math.nan, "epochs": 1.0})
    tracker.end_study(study.name, {"wall_seconds": -math.inf, "trials": 1.0}, [], status="FINISHED")
    assert tracker.close(SECONDS) is None
    runs = study.runs()
    metrics = {name: value for run in runs.values() for name, value in run.data.metrics.items()}
    assert metrics == {"val/accuracy": 0.1, "epochs": 1.0, "trials": 1.0}


def test_interrupted_and_resumed_it_goes_on_in_the_same_runs(study: Study, make_ending: MakeEnding) -> None:
    first = study.session()
    done, cut = study.job(0), study.job(1)
    for job in (done, cut):
        first.begin_trial(job, {"base_lr": 1.5})
        first.trial_facts(job, {"torch": "2.11"})
        first.trial_reports(job, study.reports(1, 4))
    first.end_trial(done, make_ending())
    assert first.close_interrupted([cut.key], SECONDS) is None
    before = study.runs()
    assert {key: run.info.status for key, run in before.items()} == {
        "study": "KILLED",
        CELL_KEY: "KILLED",
        done.key: "FINISHED",
        cut.key: "KILLED",
    }

    second = study.session()
    second.begin_trial(cut, {"base_lr": 1.5})
    second.trial_facts(cut, {"torch": "2.12"})  # MLflow refuses another value: what it began with stands
    second.trial_reports(cut, study.reports(1, 2))  # a resumed trial repeats its epochs
    second.trial_reports(cut, study.reports(3, 6))
    assert second.close(SECONDS) is None
    assert study.runs()[cut.key].info.status == "RUNNING"

    third = study.session()
    third.trial_reports(cut, study.reports(7, 7))
    third.end_trial(cut, make_ending())
    third.end_cell(LARS, {"epochs": 11.0})
    third.end_study(study.name, {}, [], status="FINISHED")
    assert third.close(SECONDS) is None
    after = study.runs()
    assert {key: run.info.run_id for key, run in after.items()} == {key: run.info.run_id for key, run in before.items()}
    assert {run.info.status for run in after.values()} == {"FINISHED"}
    for metric in ("val/loss", "val/accuracy", "lr_effective"):
        assert [step for step, _ in study.steps(cut.key, metric)] == list(range(1, 8))
        assert [step for step, _ in study.steps(done.key, metric)] == list(range(1, 5))
    assert after[cut.key].data.params["torch"] == "2.11"
