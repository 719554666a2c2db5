"""A mistake in the study file that only shows where a trial is built: one sentence, exit code 2, nothing begun."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import yaml

BROKEN = """
from trainables.config import ConfigError
from trainables.models import build_model


def picky(in_channels, classes, image_size):
    if image_size < 32:
        raise ConfigError(f"picky wants images of 32 pixels or more, but got {image_size}")
    return build_model("resnet8", in_channels=in_channels, classes=classes, image_size=image_size)
"""


def test_it_ends_the_study_before_anything_is_spent(tmp_path: Path) -> None:
    (tmp_path / "own_models.py").write_text(BROKEN)
    study = {
        "schema_version": 1,
        "name": "faulty",
        "question": "q",
        "model": {"name": "own_models:picky"},
        "train": {"epochs": 2},
        "arms": ["sgd"],
        "search": {"trials": 3, "repeats": 1},
    }
    path = tmp_path / "study.yaml"

    def run() -> subprocess.CompletedProcess[str]:
        path.write_text(yaml.safe_dump(study))
        environment = {**os.environ, "STUDY_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
        root = str(Path(__file__).parents[3])
        environment["PYTHONPATH"] = os.pathsep.join([root, environment.get("PYTHONPATH", "")])
        command = [sys.executable, "-m", "study.run", str(path)]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240, check=False
        )

    refused = run()
    assert refused.returncode == 2
    (line,) = [line for line in refused.stderr.splitlines() if line.startswith("error:")]
    assert "picky wants images of 32 pixels or more, but got 8 (said by trial sgd/B1077/r0/t" in line
    assert "Traceback" not in refused.stdout + refused.stderr

    study["model"] = {"name": "resnet8"}  # the same name, without --resume: nothing was begun
    mended = run()
    assert mended.returncode == 0, mended.stdout + mended.stderr
