"""The command as a user runs it: real subprocess, real Ray, Optuna and MLflow, in a folder of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

SMALL = (
    "digits-warmup",
    "name=e2e",
    "arms=[lars, tvlars]",
    "claims=[]",
    "train.epochs=6",
    "search.trials=3",
    "search.repeats=2",
    "search.early_stopping={method: asha, reduction_factor: 2}",
)
EXPECTED_TRIALS = 2 * 2 * (3 + 1)


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "study.run", *words]


def environment() -> dict[str, str]:
    dropped = ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "STUDY_HOME")
    return {name: value for name, value in os.environ.items() if name not in dropped}


def run(folder: Path, *words: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), cwd=folder, env=environment(), capture_output=True, text=True, timeout=timeout, check=False
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A small study run to its end: the folder it was called in, and what it printed."""
    folder = tmp_path_factory.mktemp("user")
    done = run(folder, *SMALL)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def test_the_study_ends_with_table_cost_and_paths(finished: tuple[Path, str]) -> None:
    folder, out = finished
    for words in ("lars/B1077", "tvlars/B1077", "wall time", "CPU ", "peak memory", "mlflow ui --backend-store-uri"):
        assert words in out
    assert str(folder / "studies" / "e2e" / "report.html") in out
    assert "Traceback" not in out


def test_everything_lives_in_the_home_folder(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    assert [path.name for path in folder.iterdir()] == ["studies"]
    study = folder / "studies" / "e2e"
    names = {path.name for path in study.iterdir()}
    assert names == {"lock", "optuna.log", "report.html", "rungs.jsonl", "study.json", "trials"}
    assert len(list((study / "trials").iterdir())) == EXPECTED_TRIALS
    kept = {path.parent.name for path in study.glob("trials/*/checkpoints")}
    assert kept
    assert all("_c" in trial for trial in kept)  # those of the confirm runs alone
    facts = json.loads((study / "study.json").read_text())
    assert facts["sessions"][0]["peak_memory_bytes"] > 2**28
    assert facts["versions"]["torch"]


def test_mlflow_has_every_run_once_nested_and_closed(finished: tuple[Path, str]) -> None:
    from mlflow import MlflowClient

    folder, _ = finished
    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/studies/mlflow.db")
    experiment = client.get_experiment_by_name("e2e")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=500)
    by_role: dict[str, list[Any]] = {}
    for found in runs:
        by_role.setdefault(found.data.tags["study.role"], []).append(found)
        assert found.info.status == "FINISHED", found.data.tags
    assert {role: len(group) for role, group in by_role.items()} == {"study": 1, "cell": 2, "trial": 12, "confirm": 4}
    parent = by_role["study"][0].info.run_id
    cells = {found.info.run_id: found.data.tags["study.cell"] for found in by_role["cell"]}
    assert all(found.data.tags["mlflow.parentRunId"] == parent for found in by_role["cell"])
    for found in by_role["trial"] + by_role["confirm"]:
        assert cells[found.data.tags["mlflow.parentRunId"]] == found.data.tags["study.cell"]
        assert found.data.tags["study.outcome"] in ("complete", "pruned")
        assert float(found.data.params["base_lr"]) > 0
        steps = [point.step for point in client.get_metric_history(found.info.run_id, "val/accuracy")]
        assert steps == list(range(1, len(steps) + 1))
        assert ("test/accuracy" in found.data.metrics) == (found.data.tags["study.role"] == "confirm")
    assert len({found.data.tags["study.trial"] for found in by_role["trial"] + by_role["confirm"]}) == EXPECTED_TRIALS
    assert {item.path for item in client.list_artifacts(parent)} == {"report.html", "study.json"}


def test_the_table_and_mlflow_and_ledger_agree(finished: tuple[Path, str]) -> None:
    from mlflow import MlflowClient

    from study.home import StudyHome
    from study.session import load_record

    folder, out = finished
    record = load_record(StudyHome(folder / "studies", "e2e"))
    assert record.finished
    assert len(record.trials) == EXPECTED_TRIALS
    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/studies/mlflow.db")
    experiment = client.get_experiment_by_name("e2e")
    assert experiment is not None
    for cell in ("lars/B1077", "tvlars/B1077"):
        values = [trial.metrics["test/accuracy"] for trial in record.of_cell(cell, "confirm")]
        mean = sum(values) / len(values)
        found = client.search_runs(
            [experiment.experiment_id], f"tags.`study.role` = 'cell' and tags.`study.cell` = '{cell}'"
        )
        assert found[0].data.metrics["test/accuracy"] == pytest.approx(mean, abs=1e-9)
        row = next(line for line in out.splitlines() if line.startswith(cell + " "))
        assert f"{100 * mean:.1f}" in row


def test_a_finished_study_is_left_alone(finished: tuple[Path, str]) -> None:
    folder, _ = finished
    ledger = folder / "studies" / "e2e" / "optuna.log"
    before = ledger.read_bytes()
    again = run(folder, *SMALL)
    assert again.returncode == 2
    assert "--resume" in again.stderr
    assert again.stderr.count("\n") == 1
    resumed = run(folder, *SMALL, "--resume")
    assert resumed.returncode == 0
    assert "complete" in resumed.stdout
    changed = run(folder, *SMALL, "train.epochs=7", "search.seed=1", "--resume")
    assert changed.returncode == 2
    assert "search.seed was 0 and is now 1; train.epochs was 6 and is now 7" in changed.stderr
    assert ledger.read_bytes() == before


def test_the_report_can_be_written_anew(finished: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = finished
    out = tmp_path / "again.html"
    words = [sys.executable, "-m", "study.report", "e2e", "--out", str(out)]
    done = subprocess.run(words, cwd=folder, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "lars/B1077" in out.read_text(encoding="utf-8")
    words[3] = "nothing-here"
    missing = subprocess.run(
        words, cwd=folder, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert missing.returncode == 2
    assert missing.stderr.startswith("error: ")


@pytest.mark.parametrize(
    ("number", "when"),
    [
        (signal.SIGINT, "header"),
        (signal.SIGTERM, "starting"),
        (signal.SIGINT, "training"),
        (signal.SIGTERM, "training"),
    ],
)
def test_a_stopped_study_leaves_no_process_and_goes_on(tmp_path: Path, number: signal.Signals, when: str) -> None:
    process = subprocess.Popen(
        command(*SMALL), cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    study = tmp_path / "studies" / "e2e"
    moments = {
        "header": lambda: study.exists(),
        "starting": lambda: len(psutil.Process(process.pid).children(recursive=True)) >= 3,
        "training": lambda: len(list(study.glob("trials/*/reports.jsonl"))) >= 3,
    }
    deadline = time.monotonic() + 120
    while process.poll() is None and not moments[when]() and time.monotonic() < deadline:
        time.sleep(0.05)
    tree = psutil.Process(process.pid).children(recursive=True)
    asked = time.monotonic()
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    seconds = time.monotonic() - asked
    # The promise itself, with what a machine under the whole test suite's load may add.
    assert seconds < 20, out
    assert process.returncode == 130, out
    assert "Traceback" not in out
    assert ("--resume" if (study / "study.json").exists() else "before anything was begun") in out
    _, alive = psutil.wait_procs(tree, timeout=3)
    assert not [found for found in alive if found.status() != psutil.STATUS_ZOMBIE], out
    if number == signal.SIGTERM and when == "training":
        resumed = run(tmp_path, *SMALL, "--resume")
        assert resumed.returncode == 0, resumed.stdout + resumed.stderr
        assert "cut off go on" in resumed.stdout
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/studies/mlflow.db")
        experiment = client.get_experiment_by_name("e2e")
        assert experiment is not None
        runs = client.search_runs([experiment.experiment_id], max_results=500)
        assert len(runs) == 1 + 2 + EXPECTED_TRIALS
        assert {found.info.status for found in runs} == {"FINISHED"}


def test_more_than_the_cluster_has_is_refused_and_nothing_is_begun(tmp_path: Path) -> None:
    done = run(tmp_path, *SMALL, "resources.cpus_per_worker=4096")
    assert done.returncode == 2
    assert "4,096 CPUs" in done.stderr
    assert "lower resources.cpus_per_worker" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not (tmp_path / "studies" / "e2e" / "study.json").exists()


def test_a_dead_tracking_server_costs_the_study_nothing(tmp_path: Path) -> None:
    words = ("name=e2e", "arms=[lars]", "claims=[]", "train.epochs=2", "search.trials=1", "search.repeats=1")
    stopping = "search.early_stopping.method=none"
    dead = {**environment(), "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    done = subprocess.run(
        command("digits-warmup", *words, stopping),
        cwd=tmp_path,
        env=dead,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "MLflow could not be told everything" in done.stdout
    spool = tmp_path / "studies" / "e2e" / "mlflow-spool.jsonl"
    assert spool.exists()
    # With a store that answers the next session delivers what was kept.
    later = run(tmp_path, "digits-warmup", *words, stopping, "--resume")
    assert later.returncode == 0, later.stdout + later.stderr
    assert not spool.exists()
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/studies/mlflow.db")
    experiment = client.get_experiment_by_name("e2e")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=50)
    assert sorted(found.data.tags["study.role"] for found in runs) == ["cell", "confirm", "study", "trial"]
    assert {found.info.status for found in runs} == {"FINISHED"}
