"""A cluster that the user started: `ray job submit`, two studies at once, the user's own modules, tokens."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

SMALL = (
    "digits-warmup",
    "claims=[]",
    "train.epochs=4",
    "search.trials=2",
    "search.repeats=1",
    "search.early_stopping.method=none",
)
OWN_MODULE = """
from torch import nn

def linear(in_channels, classes, image_size):
    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * image_size ** 2, classes))
"""


def artefacts(folder: Path) -> dict[str, Any]:
    """What a study leaves in its home: what is there, and what the trials did."""
    facts = json.loads((folder / "study.json").read_text())
    reports = {path.parent.name: path.read_text().splitlines() for path in folder.glob("trials/*/reports.jsonl")}
    return {
        "files": sorted(path.name for path in folder.iterdir() if path.name != "lock"),
        "reported": facts["reported"],
        "trials": {name: [int(json.loads(line)["epoch"]) for line in lines] for name, lines in reports.items()},
        "last": {
            name: {
                key: value
                for key, value in json.loads(lines[-1]).items()
                if not key.endswith("second") and "seconds" not in key
            }
            for name, lines in reports.items()
        },
    }


def test_a_submitted_job_and_a_second_study_share_the_cluster(started: Any, tmp_path: Path) -> None:
    """The job's artefacts are those of a local run; meanwhile a driver with a model of its own runs beside it."""
    words = [*SMALL, "arms=[lars]", "search.method=random", "resources.max_concurrent=1"]
    ray = str(Path(sys.executable).with_name("ray"))
    submit = [ray, "job", "submit", "--address", started.dashboard, "--"]
    python = [sys.executable, "-m", "study.run"]
    submitted = started.begin(*submit, *python, *words, "name=submitted", "--home", str(tmp_path / "job"))

    # A module beside the user's study, which no node finds by itself.
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "my_models.py").write_text(OWN_MODULE)
    path = {"PYTHONPATH": os.pathsep.join([started.env["PYTHONPATH"], str(mine)])}
    beside = type(started)(started.address, started.dashboard, {**started.env, **path}).call(
        *python,
        *SMALL,
        "arms=[sgd]",
        "model.name=my_models:linear",
        "name=beside",
        *("--address", started.address, "--home", str(tmp_path / "beside"), "--storage", str(tmp_path / "shared")),
        cwd=mine,
    )
    assert beside.returncode == 0, beside.stdout + beside.stderr
    assert "2 nodes, 2 trials at a time" in beside.stdout
    assert artefacts(tmp_path / "beside" / "beside")["reported"]
    assert list((tmp_path / "shared").iterdir()) == []  # checkpoints were there, and are no longer needed

    output, _ = submitted.communicate(timeout=300)
    assert submitted.returncode == 0, output
    assert "succeeded" in output
    local = started.call(*python, *words, "name=submitted", "--home", str(tmp_path / "local"))
    assert local.returncode == 0, local.stdout + local.stderr
    assert artefacts(tmp_path / "job" / "submitted") == artefacts(tmp_path / "local" / "submitted")


def test_what_is_wrong_with_the_cluster_is_one_sentence(started: Any, tmp_path: Path) -> None:
    python = [sys.executable, "-m", "study.run", *SMALL, "--home", str(tmp_path)]
    without_token = {name: value for name, value in started.env.items() if name != "RAY_AUTH_TOKEN"}
    other = {**without_token, "RAY_AUTH_TOKEN": "another token than the cluster's"}
    for env, words, expected in (
        (other, ("--address", started.address), "token"),
        (started.env, ("--address", "127.0.0.1:1"), "no Ray cluster could be reached at 127.0.0.1:1"),
        (started.env, ("--address", "ray://127.0.0.1:10001"), "ray job submit"),
        (started.env, ("--address", started.dashboard), "of Ray's dashboard"),
        (started.env, ("--address", "nonsense"), "must read host:port"),
        (started.env, ("--address", started.address, "--storage", "/proc/nowhere"), "cannot write to /proc/nowhere"),
        (started.env, ("--address", started.address, "resources.cpus_per_worker=2"), "no node has that"),
    ):
        done = type(started)(started.address, started.dashboard, env).call(*python, *words)
        assert done.returncode == 2, done.stdout + done.stderr
        (line,) = done.stderr.strip().splitlines()
        assert expected in line, line
