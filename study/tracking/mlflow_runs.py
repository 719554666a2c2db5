"""Notes as MLflow runs: one experiment a study; in it the parent run, a run a cell, and below that its trials.

The only module that knows `mlflow`. Runs are found again by the study's id and their key, so a resumed study goes on in
the runs that it has.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from study.tracking.spool import Notes

# MLflow's own defaults make a dead server block a call for minutes.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
MOST_METRICS, MOST_PARAMS, MOST_TAGS = 1000, 100, 100
ID_TAG, KEY_TAG = "study.id", "study.key"


class MlflowRuns:
    """A tracking store, local database or server, as the destination of notes."""

    def __init__(self, uri: str, experiment: str, artifacts: Path, study_id: str) -> None:
        self._uri = uri
        self._experiment = experiment
        self._artifacts = artifacts
        self._study_id = study_id
        self._runs: dict[str, str] = {}  # key -> MLflow's run id
        self._known_params: dict[str, set[str]] = {}  # immutable in MLflow: told once
        self._known_epochs: dict[str, int] = {}  # key -> last epoch that was there before this session

    def open(self) -> None:
        """Connect, make the experiment where it is missing, and find the study's runs."""
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        for name in ("alembic", "mlflow"):
            logging.getLogger(name).setLevel(logging.ERROR)

        self._client = MlflowClient(tracking_uri=self._uri)
        found = self._client.get_experiment_by_name(self._experiment)
        if found is not None and found.lifecycle_stage == "deleted":
            raise RuntimeError(
                f"the experiment '{self._experiment}' is deleted in MLflow; restore it or remove it for good"
            )
        if found is None:
            # Without a place of its own a local store writes artifacts beside wherever the command was called.
            local = self._uri.startswith(("sqlite:", "file:", "/"))
            place = (self._artifacts / self._experiment).as_uri() if local else None
            self._experiment_id = self._client.create_experiment(self._experiment, artifact_location=place)
        else:
            self._experiment_id = found.experiment_id
        self._find_runs()

    def write(self, notes: Notes) -> None:
        """Deliver the notes of one run: made where it is missing, never told an epoch twice."""
        from mlflow.entities import Metric, Param, RunTag

        run_id = self._runs.get(notes.key)
        if run_id is None:
            run_id = self._create(notes)
        elif notes.start_ms and notes.ended is None:
            self._client.update_run(run_id, status="RUNNING")
        known = self._known_epochs.get(notes.key, -1)
        metrics = [Metric(key, value, ms, step) for key, value, step, ms in notes.metrics if step > known or step == 0]
        told = self._known_params.setdefault(notes.key, set())
        params = [Param(key, value) for key, value in notes.params.items() if key not in told]
        tags = [RunTag(key, value) for key, value in notes.tags.items()]
        while metrics or params or tags:
            room = MOST_METRICS - min(len(params), MOST_PARAMS) - min(len(tags), MOST_TAGS)
            self._client.log_batch(run_id, metrics[:room], params[:MOST_PARAMS], tags[:MOST_TAGS])
            metrics, params, tags = metrics[room:], params[MOST_PARAMS:], tags[MOST_TAGS:]
        told.update(notes.params)
        epochs = [step for _, _, step, _ in notes.metrics]
        self._known_epochs[notes.key] = max([known, *epochs])
        if notes.ended is not None:
            self._client.set_terminated(run_id, notes.ended, notes.end_ms)
        # Last: a place for files that refuses them must not leave a run standing as running.
        for path in notes.artifacts:
            if Path(path).exists():
                self._client.log_artifact(run_id, path)

    def _create(self, notes: Notes) -> str:
        tags = {**notes.tags, ID_TAG: self._study_id, KEY_TAG: notes.key}
        if notes.parent is not None:
            tags["mlflow.parentRunId"] = self._runs[notes.parent]
        run = self._client.create_run(
            self._experiment_id, start_time=notes.start_ms or None, tags=tags, run_name=notes.name
        )
        self._runs[notes.key] = run.info.run_id
        notes.tags.clear()
        return run.info.run_id

    def _find_runs(self) -> None:
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment_id], f"tags.`{ID_TAG}` = '{self._study_id}'", max_results=1000, page_token=token
            )
            for run in page:
                key = run.data.tags.get(KEY_TAG)
                if key is None:
                    continue
                self._runs[key] = run.info.run_id
                self._known_params[key] = set(run.data.params)
                if run.info.status != "FINISHED" and "val/loss" in run.data.metrics:
                    history = self._client.get_metric_history(run.info.run_id, "val/loss")
                    self._known_epochs[key] = max(point.step for point in history)
            token = page.token
            if not token:
                return
