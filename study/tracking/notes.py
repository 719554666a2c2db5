"""A study's own runs in MLflow: the parent run and the cells', opened at the start and summed up at the end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from study.analysis.summary import CellSummary, summarize
from study.home import StudyHome
from study.plan import Plan
from study.records import StudyRecord
from study.spec import Spec
from study.tracking.mlflow_runs import MlflowRuns
from study.tracking.tracker import Tracker


def start_of_study(spec: Spec, plan: Plan, place: StudyHome, facts: Mapping[str, Any]) -> Tracker:
    """A tracker with the study's and its cells' runs opened."""
    tags = {
        "study.name": spec.name,
        "study.spec_hash": plan.spec_hash,
        "mlflow.source.name": "study.run",
        "mlflow.source.type": "LOCAL",
    }
    tracker = Tracker(
        lambda: MlflowRuns(place.mlflow_uri, spec.name, place.mlflow_artifacts, facts["id"]), place.spool, tags
    )
    tracker.begin_study(
        spec.name,
        spec.question,
        {
            "arms": ", ".join(spec.arms),
            "repeats": plan.repeats,
            "trials_per_search": plan.trials_per_search,
            "confirm_seeds": plan.confirm_seeds,
            "search_method": spec.search.method,
            "seed": plan.seed,
            **{f"version.{name}": version for name, version in facts["versions"].items()},
        },
    )
    for cell in plan.cells:
        block = cell.block
        tracker.begin_cell(
            cell.name,
            {
                "arm": cell.arm,
                "data": block.data.name,
                "model": block.model,
                "batch_size": block.batch_size,
                "micro_batch_size": block.micro_batch_size,
                "epochs": block.epochs,
                "one_d_lr": block.one_d_lr,
                "precision": block.precision,
                **{f"space.{name}": dim.describe() for name, dim in cell.dimensions.items()},
                **{f"fixed.{name}": value for name, value in cell.space.fixed.items()},
            },
        )
    return tracker


def end_of_study(tracker: Tracker, record: StudyRecord, artifacts: list[Path], seconds: float) -> str | None:
    """Sum up cells and study; returns what stood in the way of telling MLflow, if anything did."""
    for summary in summarize(record).cells:
        tracker.end_cell(summary.cell.name, _cell_metrics(summary))
    costs = {
        "wall_seconds": record.wall_seconds,
        "cpu_seconds": record.cpu_seconds,
        "peak_memory_gib": record.peak_memory_bytes / 2**30,
        "trials": float(len(record.trials)),
        "epochs": float(sum(trial.epochs for trial in record.trials)),
    }
    tracker.end_study(record.name, costs, artifacts, status="FINISHED")
    return tracker.close(seconds)


def _cell_metrics(summary: CellSummary) -> dict[str, float]:
    """Means as fractions, so that they share a chart with the trials' own `test/accuracy`."""
    metrics = {
        "trials/complete": float(summary.search.complete),
        "trials/pruned": float(summary.search.pruned),
        "trials/diverged": float(summary.search.diverged),
        "trials/failed": float(summary.search.failed),
        "epochs": float(summary.epochs_spent),
    }
    if summary.mean_points is not None:
        metrics["test/accuracy"] = summary.mean_points / 100
    if summary.interval is not None:
        metrics |= {"test/accuracy_low": summary.interval.low / 100, "test/accuracy_high": summary.interval.high / 100}
    return metrics
