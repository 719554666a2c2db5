"""A study whose trials failed for a reason that is gone: `--resume` leaves them, `--retry-failed` runs them anew."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import yaml

from study import open_study
from study.home import StudyHome
from study.records import COMPLETE, CONFIRM, FAILED, SEARCH
from study.spec import Spec

CHANGES = {
    "arms": ["lars"],
    "train": {"epochs": 2, "batch_size": "full"},
    "search": {"trials": 1, "repeats": 1, "method": "random"},
}


def test_what_failed_is_run_anew_on_request(
    begin_home: Callable[..., StudyHome], make_spec: Callable[..., Spec], tmp_path: Path
) -> None:
    place = begin_home([FAILED, FAILED], **CHANGES)
    study_file = tmp_path / "tiny.yaml"
    study_file.write_text(yaml.safe_dump(make_spec(**CHANGES).to_dict()))

    def run(*options: str) -> str:
        dropped = ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "STUDY_HOME")
        environment = {name: value for name, value in os.environ.items() if name not in dropped}
        command = [sys.executable, "-m", "study.run", str(study_file), "--home", str(place.root), *options]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "nothing is left to run" in run("--resume")
    assert [trial.state for trial in open_study(place.folder).trials] == [FAILED, FAILED]
    run("--resume", "--retry-failed")
    record = open_study(place.folder)
    assert [(trial.phase, trial.state) for trial in record.trials] == [
        (SEARCH, FAILED),
        (SEARCH, FAILED),
        (SEARCH, COMPLETE),
        (CONFIRM, COMPLETE),
    ]
    assert record.finished
    assert "nothing is left to run" in run("--resume", "--retry-failed")
