"""What confirm runs measured along training: every epoch's report, and layer statistics where a study keeps them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from study.analysis.scores import confirming
from study.home import StudyHome
from study.look import job_of
from study.records import StudyRecord
from trainables.diagnostics.layer_table import FIELDS, LayerTable, read_layers

MOST_RECORDS = 400  # of one run's layer statistics; more would not be seen

Report = Mapping[str, float]


@dataclass(frozen=True)
class Trace:
    """One run along training."""

    reports: tuple[Report, ...] = ()  # an epoch each, ascending
    layers: LayerTable | None = None

    def last(self, key: str) -> float | None:
        """The newest value of a report key that is not due every epoch."""
        return next((report[key] for report in reversed(self.reports) if key in report), None)

    def total(self, key: str) -> float:
        return sum(report.get(key, 0.0) for report in self.reports)


Traces = Mapping[int, Trace]
"""By the trial's number; what a study without diagnostics has is empty."""


def read_traces(record: StudyRecord, place: StudyHome) -> Traces:
    """The confirm runs that count, from the trials' folders; what is missing or unreadable there is left out."""
    settings = record.spec.get("diagnostics")
    if not isinstance(settings, Mapping) or not any(
        settings.get(name)
        for name in ("layer_statistics", "curvature", "sam_sharpness", "noise_scale", "target_accuracy")
    ):
        return {}
    found = {}
    for cell in record.plan.cells:
        for trial in confirming(record, cell):
            job = job_of(record, trial)
            reports = read_reports(place.trial(job.folder) / "reports.jsonl")
            found[trial.number] = Trace(reports, _read_layers(place.layers(job.folder)))
    return found


def read_reports(path: Path) -> tuple[Report, ...]:
    """A trial's reports, an epoch each; a torn line is left out, and of an epoch told twice the later one stands."""
    reports: dict[int, Report] = {}
    with contextlib.suppress(OSError):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                report = json.loads(line)
                reports[int(report["epoch"])] = report
    return tuple(reports[epoch] for epoch in sorted(reports))


def thinned(table: LayerTable, most: int = MOST_RECORDS) -> LayerTable:
    """The table with at most so many records, the first and the last among them."""
    if len(table.steps) <= most:
        return table
    return _rows(table, np.unique(np.linspace(0, len(table.steps) - 1, most).round().astype(np.int64)))


def _read_layers(path: Path) -> LayerTable | None:
    table = None
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        table = read_layers(path)
    return None if table is None else thinned(_each_once(table))


def _each_once(table: LayerTable) -> LayerTable:
    """By step; what a trial that went on from a checkpoint recorded again replaces what was there."""
    last = {int(step): row for row, step in enumerate(table.steps)}
    return _rows(table, np.array([last[step] for step in sorted(last)]))


def _rows(table: LayerTable, rows: npt.NDArray[np.int64]) -> LayerTable:
    return replace(table, **{name: getattr(table, name)[rows] for name in ("steps", "epochs", *FIELDS)})
