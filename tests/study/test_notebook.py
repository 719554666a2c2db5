"""The notebook-style example runs as it stands, and what it exports runs again to the same result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import study
from study import load_study, open_study
from study.look import job_of

NOTEBOOK = Path(study.__file__).parent / "docs" / "notebook.py"
CLOCKS = {"images_per_second", "epoch_seconds"}


def python(folder: Path, *arguments: str) -> str:
    dropped = ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "STUDY_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in dropped}
    environment["PYTHONPATH"] = str(NOTEBOOK.parents[2])
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder that the example was called in, and what it printed."""
    folder = tmp_path_factory.mktemp("notebook")
    return folder, python(folder, str(NOTEBOOK))


def reports(home: Path, study_name: str, number: int) -> list[dict[str, Any]]:
    """All that a trial reported, an epoch each, but for the clock."""
    record = open_study(study_name, home=home)
    path = home / study_name / "trials" / job_of(record, record.trials[number]).folder / "reports.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in CLOCKS} for line in lines]


def test_the_example_shows_what_it_says(ran: tuple[Path, str]) -> None:
    folder, out = ran
    assert "12 trials, 72 epochs" in out
    assert "True 12 " in out
    assert "lars/B1077" in out
    assert sorted(path.name for path in folder.iterdir()) == ["best.yaml", "studies"]


def test_the_exported_trial_runs_to_the_same_result(ran: tuple[Path, str]) -> None:
    folder, _ = ran
    home = folder / "studies"
    spec = load_study(folder / "best.yaml")
    number = int(spec.name.rpartition("-")[2])
    python(folder, "-m", "study.run", "best.yaml")
    again = open_study(spec.name, home=home)
    (trial,) = again.trials
    then = open_study("from-a-notebook", home=home).trials[number]
    assert (trial.phase, trial.state, trial.value, trial.curve) == (then.phase, then.state, then.value, then.curve)
    assert reports(home, spec.name, 0) == reports(home, "from-a-notebook", number)
    assert len(trial.curve) == 6


def test_so_does_an_exported_confirm_run(ran: tuple[Path, str]) -> None:
    folder, _ = ran
    home = folder / "studies"
    number = next(t.number for t in open_study("from-a-notebook", home=home).trials if t.phase == "confirm")
    python(folder, "-m", "study.export", "from-a-notebook", "--trial", str(number), "-o", "confirm.yaml")
    out = python(folder, "-m", "study.run", "confirm.yaml")
    found = reports(home, f"from-a-notebook-trial-{number}", 0)
    assert found == reports(home, "from-a-notebook", number)
    assert f"{100 * found[-1]['test/accuracy']:.1f}" in out
