"""The doctor as a user calls it: with torch, MLflow's store and a Ray that really starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("words", "code", "last"),
    [
        ((), 0, "ready: python -m study.run"),
        (("resources.cpus_per_worker=4096",), 1, "something has to be mended first"),
    ],
)
def test_the_doctor_on_this_machine(words: tuple[str, ...], code: int, last: str, tmp_path: Path) -> None:
    dropped = ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "STUDY_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in dropped}
    command = [sys.executable, "-m", "study.doctor", *words]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    lines = done.stdout.splitlines()
    assert (done.returncode, lines[-1]) == (code, last), done.stdout + done.stderr
    assert "could not be looked at" not in done.stdout
    found = {line[6:16].strip(): line[:4].strip() for line in lines[:-1] if not line.startswith(" ")}
    assert set(found) >= {"python", "cpu", "gpu", "memory", "home", "data", "mlflow", "ray"}
    assert found["ray"] == ("fail" if code else "ok")
    assert list(tmp_path.iterdir()) == []
