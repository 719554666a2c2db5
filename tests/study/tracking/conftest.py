"""A study's place in a real MLflow store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from study.jobs import Job
from study.plan import make_plan
from study.records import SEARCH
from study.spec import Spec
from study.tracking.mlflow_runs import MlflowRuns
from study.tracking.tracker import RunStore, Tracker

LARS = "lars/B64"


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One database for all tests: MLflow takes seconds to make its tables. Each test has its own experiment."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@dataclass
class Study:
    """A study's place in MLflow, and what stands there."""

    name: str
    uri: str
    folder: Path
    spec: Spec

    def store(self) -> MlflowRuns:
        return MlflowRuns(self.uri, self.name, self.folder / "artifacts", study_id=f"id-{self.name}")

    @property
    def spool(self) -> Path:
        return self.folder / "spool.jsonl"

    def session(self, make_store: Callable[[], RunStore] | None = None) -> Tracker:
        tracker = Tracker(make_store or self.store, self.spool, {"study.name": self.name, "study.spec_hash": "abc"})
        tracker.begin_study(self.name, "which?", {"repeats": 2})
        tracker.begin_cell(LARS, {"batch_size": 64})
        return tracker

    @staticmethod
    def reports(first: int, last: int) -> list[dict[str, float]]:
        """Reports of the epochs from `first` to `last`."""
        return [
            {
                "epoch": float(epoch),
                "train/loss": 2.0 / epoch,
                "val/loss": 3.0 / epoch,
                "val/accuracy": 0.1 * epoch,
                "lr_effective": 1.0,
            }
            for epoch in range(first, last + 1)
        ]

    def job(self, index: int, phase: str = SEARCH) -> Job:
        return Job(index, make_plan(self.spec).cells[0], 1, phase, index, {"base_lr": 1.5, "weight_decay": 1e-4}, 7)

    def runs(self) -> dict[str, Any]:
        """By key; a key that is there twice fails."""
        client = self.client()
        experiment = client.get_experiment_by_name(self.name)
        found = client.search_runs([experiment.experiment_id])
        runs = {run.data.tags["study.key"]: run for run in found}
        assert len(runs) == len(found)
        return runs

    def steps(self, key: str, metric: str) -> list[tuple[int, float]]:
        history = self.client().get_metric_history(self.runs()[key].info.run_id, metric)
        return sorted((point.step, point.value) for point in history)

    def client(self) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self.uri)


@pytest.fixture
def study(
    database: str, tmp_path: Path, make_spec: Callable[..., Spec], request: pytest.FixtureRequest
) -> Iterator[Study]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_LOGGING_LEVEL"):
            patch.setenv(name, {"MLFLOW_LOGGING_LEVEL": "ERROR"}.get(name, "1"))
        yield Study(request.node.name, database, tmp_path, make_spec())
