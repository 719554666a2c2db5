"""The files for clusters: valid by Ray's own schema or the shell, and the commands in them are commands of ours."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from study.load import load_study
from study.run import parser, split_words

FOLDER = Path(__file__).parents[3] / "study" / "cluster"


def commands(text: str) -> list[list[str]]:
    """Arguments of every `python -m study.run` in a text, placeholders filled in."""
    joined = text.replace("\\\n", " ").replace('"$@"', "digits-warmup resources.workers=2").replace("$", "")
    lines = [line.partition("python -m study.run")[2] for line in joined.splitlines() if "python -m study.run" in line]
    return [shlex.split(line, comments=True) for line in lines]


@pytest.mark.parametrize("name", ["rayjob.yaml", "ray-up.yaml", "slurm.sh"])
def test_the_commands_are_ours(name: str) -> None:
    found = commands((FOLDER / name).read_text())
    if name == "rayjob.yaml":
        found.append(shlex.split(yaml.safe_load((FOLDER / name).read_text())["spec"]["entrypoint"])[3:])
    assert found
    for words in found:
        given = parser().parse_intermixed_args(words)
        load_study(*split_words(given.words))


def test_ray_up_is_valid_by_ray_s_schema() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config: dict[str, Any] = yaml.safe_load((FOLDER / "ray-up.yaml").read_text())
    validate_config(prepare_config(config))


def test_the_ray_job_holds_to_the_ray_that_we_hold_to() -> None:
    import ray

    job = yaml.safe_load((FOLDER / "rayjob.yaml").read_text())
    assert job["kind"] == "RayJob"
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["rayVersion"] == ray.__version__
    pods = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    containers = [pod["template"]["spec"]["containers"][0] for pod in pods]
    assert len({container["image"] for container in containers}) == 1
    for container in containers:  # all of them see what the entrypoint writes to
        assert container["volumeMounts"][0]["mountPath"] == "/shared"


def test_the_slurm_script_is_a_script() -> None:
    subprocess.run(["bash", "-n", str(FOLDER / "slurm.sh")], check=True)
