"""A budget that ends a study, and a study that is extended: the command as a user runs it, on a real Ray."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from study.home import StudyHome
from study.records import RUNNING, SEARCH
from study.session import load_record

STUDY = (
    "digits-warmup",
    "name=budget",
    "arms=[lars]",
    "claims=[]",
    "train.epochs=30",
    "search.trials=2",
    "search.repeats=1",
    "search.early_stopping.method=none",
)


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    dropped = ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "STUDY_HOME")
    return subprocess.run(
        [sys.executable, "-m", "study.run", *words],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name not in dropped},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


def test_a_spent_budget_ends_the_study_cleanly_and_more_of_it_goes_on(tmp_path: Path) -> None:
    place = StudyHome(tmp_path / "studies", "budget")
    done = run(tmp_path, *STUDY, "budget.device_hours=0.0005")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "budget.device_hours=0.0005 is spent: the study ends with what it has" in done.stdout
    assert "--resume" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    record = load_record(place)
    assert not record.finished
    assert record.ended_by == "budget.device_hours=0.0005"
    assert {trial.state for trial in record.trials} == {RUNNING}
    reached = {trial.number: trial.epochs for trial in record.trials}
    assert 0 <= min(reached.values()) < 30
    assert record.device_seconds["lars/B1077"] >= 0.0005 * 3600
    assert "its budget was spent (budget.device_hours=0.0005)" in place.report.read_text(encoding="utf-8")
    statuses = mlflow_statuses(tmp_path)
    assert "RUNNING" not in statuses

    again = run(tmp_path, *STUDY, "budget.device_hours=0.0005", "--resume")
    assert again.returncode == 0
    assert len(load_record(place).trials) == len(record.trials)
    assert json.loads(place.facts.read_text())["sessions"] == json.loads(place.facts.read_text())["sessions"][:1]

    more = run(tmp_path, *STUDY, "search.trials=3", "--resume")
    assert more.returncode == 0, more.stdout + more.stderr
    assert "added after the lock: budget.device_hours was 0.0005 and is now None; search.trials" in more.stdout
    final = load_record(place)
    assert final.finished
    assert final.ended_by is None
    assert sum(trial.phase == SEARCH for trial in final.trials) == 3
    for trial in final.trials[: len(reached)]:
        assert sorted(trial.curve) == list(range(1, 31))  # gone on with, from where it was
    assert len(final.added) == 2
    report = place.report.read_text(encoding="utf-8")
    assert "Added after the lock: budget.device_hours was 0.0005" in report
    assert "Added after the lock" in more.stdout
    assert set(mlflow_statuses(tmp_path)) == {"FINISHED"}

    ledger = place.ledger.read_bytes()
    idle = run(tmp_path, *STUDY, "search.trials=3", "--resume")
    assert "nothing is left to run" in idle.stdout
    assert place.ledger.read_bytes() == ledger


def mlflow_statuses(folder: Path) -> list[str]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/studies/mlflow.db")
    experiment = client.get_experiment_by_name("budget")
    assert experiment is not None
    return [run.info.status for run in client.search_runs([experiment.experiment_id])]
