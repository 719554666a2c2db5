"""A study that really runs, seen and steered from outside, as a user would from another terminal."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from study import open_study
from study.home import StudyHome
from study.records import PRUNED, RUNNING, SEARCH, STOPPED_BY_USER, StudyRecord
from study.show import main as show
from study.stop import main as stop

OVERRIDES = (
    "name=live",
    "arms=[lars, tvlars]",
    "claims=[]",
    "train.epochs=4000",  # far longer than this test takes
    "search.trials=3",
    "search.repeats=1",
    "search.early_stopping.method=none",
    "resources.max_concurrent=1",
)


def wait_for(what: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 180
    while not what():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_running_study_is_shown_and_stopped_piece_by_piece(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dropped = ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "STUDY_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in dropped}
    command = [sys.executable, "-m", "study.run", "digits-warmup", *OVERRIDES]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    home = ["--home", str(tmp_path / "studies")]

    def record() -> StudyRecord:
        return open_study("live", home=tmp_path / "studies")

    def begun(count: int) -> bool:
        facts = StudyHome(tmp_path / "studies", "live").facts
        return facts.exists() and sum(trial.epochs > 0 for trial in record().trials) >= count

    try:
        wait_for(lambda: begun(1), process)
        assert show(["live", *home]) == 0
        shown = capsys.readouterr().out
        assert shown.startswith(f"live: running (process {process.pid})")
        assert "1 running" in shown
        assert show(["live", *home, "--trial", "0"]) == 0
        assert "state     running after " in capsys.readouterr().out

        assert stop(["live", *home, "--cell", "tvlars/B1077"]) == 0
        assert stop(["live", *home, "--trial", "0"]) == 0
        wait_for(lambda: begun(2), process)
        first, second = record().trials
        assert (first.state, first.reason) == (PRUNED, STOPPED_BY_USER)
        assert 0 < first.epochs < 4000
        assert (second.cell, second.phase, second.state) == ("lars/B1077", SEARCH, RUNNING)  # and not tvlars, in turn

        assert stop(["live", *home]) == 0
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "lars/B1077/r0/t0 stopped by the user" in out
    assert "tvlars/B1077 starts no further trials: stopped by the user" in out
    capsys.readouterr()
    assert show(["live", *home]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("live: stopped")
    assert "1 cut off" in shown
    assert record().stopped_cells == ("tvlars/B1077",)
