"""A cluster that the user started: `ray job submit`, two studies at once, the user's own modules, tokens."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
SMALL = (
    "digits-warmup",
    "claims=[]",
    "train.epochs=4",
    "search.trials=2",
    "search.repeats=1",
    "search.early_stopping.method=none",
)
OWN_MODULE = """
from my_layers import nn

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
    """The job's artefacts are those of a local run; meanwhile another study runs beside it. Both have a model that no
    node finds by itself, and the second study's home is not seen by the other node."""
    words = [*SMALL, "model.name=my_models:linear", "arms=[lars]", "search.method=random", "resources.max_concurrent=1"]
    python = [sys.executable, "-m", "study.run"]
    mine = started.private / "mine"
    mine.mkdir()
    (mine / "my_models.py").write_text(OWN_MODULE)
    (mine / "my_layers.py").write_text("from torch import nn\n")
    ray_job = [str(Path(sys.executable).with_name("ray")), "job"]
    at = ("--address", started.dashboard)
    # Nodes that share a session folder, as without the wall, unpack one working directory over the other's.
    bring = ["--working-dir", str(mine)] if started.walled else []
    path = str(ROOT) if started.walled else f"{ROOT}:{mine}"
    submit = [*ray_job, "submit", *at, *bring, "--no-wait", "--submission-id", "study", "--"]
    command = [*submit, "env", f"PYTHONPATH={path}", *python, *words, "name=submitted", "--home", str(tmp_path / "job")]
    # A head that has only just started has nobody yet to take jobs.
    started.until(lambda: started.call(*command).returncode == 0)

    beside = started.call(
        *python,
        *SMALL,
        "model.name=my_models:linear",
        "arms=[sgd]",
        "name=beside",
        *("--address", started.address, "--home", str(started.private), "--storage", str(tmp_path / "shared")),
        cwd=mine,
    )
    assert beside.returncode == 0, beside.stdout + beside.stderr
    assert "2 nodes, 2 trials at a time" in beside.stdout
    assert artefacts(started.private / "beside")["reported"]
    (checkpoints,) = (tmp_path / "shared").iterdir()
    assert [path.name for path in checkpoints.iterdir()] == ["sgd_B1077_r0_c0"]  # all were there; the winner's stay

    followed = started.call(*ray_job, "logs", *at, "--follow", "study")
    ended = started.call(*ray_job, "status", *at, "study")
    assert "succeeded" in ended.stdout + ended.stderr, followed.stdout + ended.stdout
    local = started.call(*python, *words, "name=submitted", "--home", str(tmp_path / "local"), cwd=mine)
    assert local.returncode == 0, local.stdout + local.stderr
    assert artefacts(tmp_path / "job" / "submitted") == artefacts(tmp_path / "local" / "submitted")


def test_a_home_that_is_not_shared_is_no_place_for_checkpoints(started: Any) -> None:
    if not started.walled:
        pytest.skip("folders cannot be hidden from a process here (unshare --mount is refused)")
    python = [sys.executable, "-m", "study.run", *SMALL, "name=unshared", "--home", str(started.private)]
    done = started.call(*python, "--address", started.address)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "does not see in" in done.stderr
    assert "give --storage a folder that every node shares" in done.stderr
    assert not (started.private / "unshared" / "study.json").exists()


def test_what_is_wrong_with_the_cluster_is_one_sentence(started: Any, tmp_path: Path) -> None:
    python = [sys.executable, "-m", "study.run", *SMALL, "--home", str(tmp_path)]
    at = ("--address", started.address)
    for env, words, expected in (
        ({"RAY_AUTH_TOKEN": "another token than the cluster's"}, at, "wants its token"),
        ({}, ("--address", "127.0.0.1:1"), "no Ray cluster could be reached at 127.0.0.1:1"),
        ({}, (*at, "--storage", "/proc/nowhere"), "cannot write to /proc/nowhere"),
        ({}, (*at, "--storage", "nosuch://bucket"), "nor fsspec (Protocol not known: nosuch) can open it"),
        ({}, (*at, "resources.cpus_per_worker=2"), "no node has that"),
        ({}, (*at, "data={name: cifar10, root: /nowhere}"), "lacks data: "),
    ):
        done = started.call(*python, *words, env=env)
        assert done.returncode == 2, done.stdout + done.stderr
        (line,) = done.stderr.strip().splitlines()
        assert expected in line, line
