"""What a study tells MLflow, from a background thread: the sweep never waits for it and never fails by it.

The driver's thread turns events into small plain notes and queues them. The writer thread gathers the notes of a run
and delivers them together: a short trial costs three calls. A note that cannot be delivered is spooled to a file and
delivered later, by this session or by the next; delivering twice changes nothing.
"""

from __future__ import annotations

import json
import math
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from study.jobs import Job
from study.search.ledger import Ending

FLUSH_SECONDS = 5.0
RETRY_SECONDS = 30.0
QUEUE_LENGTH = 10_000
STUDY, CELL, TRIAL, CONFIRM_ROLE = "study", "cell", "trial", "confirm"


@dataclass
class Notes:
    """What is to be told of one run. Plain data, so that it can be spooled."""

    key: str  # unique in its study: "study", "cell:<name>" or a job's key
    parent: str | None  # key of the parent run
    name: str
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    metrics: list[tuple[str, float, int, int]] = field(default_factory=list)  # key, value, epoch, milliseconds
    artifacts: list[str] = field(default_factory=list)
    ended: str | None = None  # MLflow's status: FINISHED, FAILED or KILLED
    start_ms: int = 0
    end_ms: int = 0

    def merge(self, later: Notes) -> None:
        """Add what a later note of the same run says."""
        self.tags |= later.tags
        self.params |= later.params
        self.metrics += later.metrics
        self.artifacts += later.artifacts
        if later.ended is not None:
            self.ended, self.end_ms = later.ended, later.end_ms


class RunStore(Protocol):
    """Where notes are delivered. One thread uses it."""

    def open(self) -> None:
        """Connect and find the runs that are there already."""

    def write(self, notes: Notes) -> None:
        """Deliver the notes of one run; raises where it cannot."""


class Tracker:
    """The driver's side: cheap calls, in order, from one thread."""

    def __init__(self, make_store: Callable[[], RunStore], spool: Path, study_tags: Mapping[str, str]) -> None:
        self._tags = dict(study_tags)
        self._cells: list[str] = []
        self._queue: queue.Queue[Notes | None] = queue.Queue(QUEUE_LENGTH)
        self._writer = _Writer(make_store, spool, self._queue)
        self._thread = threading.Thread(target=self._writer.run, name="tracking", daemon=True)
        self._thread.start()

    def begin_study(self, name: str, question: str, params: Mapping[str, object]) -> None:
        """Open the parent run."""
        tags = {"mlflow.note.content": question}
        self._put(Notes("study", None, name, self._with_tags(STUDY, tags), _texts(params), start_ms=_now()))

    def begin_cell(self, cell: str, params: Mapping[str, object]) -> None:
        """Open the run that will hold a cell's summary, and its trials as children."""
        self._cells.append(_cell_place(cell)[0])
        self._put(
            Notes(*_cell_place(cell), self._with_tags(CELL, {"study.cell": cell}), _texts(params), start_ms=_now())
        )

    def begin_trial(self, job: Job, params: Mapping[str, object]) -> None:
        """Open a trial's or a confirm run's run."""
        self._put(self._note(job, params=_texts(_flat(params)), start_ms=_now()))

    def trial_facts(self, job: Job, facts: Mapping[str, object]) -> None:
        """Constant facts of a trial, as parameters."""
        self._put(self._note(job, params=_texts(facts)))

    def trial_reports(self, job: Job, reports: list[Mapping[str, float]]) -> None:
        """Epochs of a trial; the step of each metric is the epoch."""
        now = _now()
        metrics = [
            (name, float(value), int(report["epoch"]), now)
            for report in reports
            for name, value in report.items()
            if name != "epoch" and math.isfinite(value)
        ]
        self._put(self._note(job, metrics=metrics))

    def end_trial(self, job: Job, ending: Ending) -> None:
        """Close a trial's run with its outcome."""
        tags = {"study.outcome": ending.state}
        if ending.reason:
            tags["study.reason"] = ending.reason[:5000]
        status = "FAILED" if ending.state == "failed" else "FINISHED"
        self._put(self._note(job, tags=tags, ended=status, end_ms=_now()))

    def end_cell(self, cell: str, metrics: Mapping[str, float]) -> None:
        """Close a cell's run with its summary."""
        numbers = _plain_metrics(metrics)
        self._put(Notes(*_cell_place(cell), metrics=numbers, ended="FINISHED", end_ms=_now()))

    def end_study(self, name: str, metrics: Mapping[str, float], artifacts: list[Path], *, status: str) -> None:
        """Close the parent run with the study's cost and its report."""
        files = [str(path) for path in artifacts]
        notes = Notes("study", None, name, metrics=_plain_metrics(metrics), artifacts=files)
        notes.ended, notes.end_ms = status, _now()
        self._put(notes)

    def close_interrupted(self, running: Sequence[str], seconds: float) -> str | None:
        """Mark what was cut off as KILLED, so that nothing stands as running; a resumed session goes on in its runs."""
        for key in (*running, *self._cells, "study"):
            self._put(Notes(key, None, key, ended="KILLED", end_ms=_now()))
        return self.close(seconds)

    def close(self, seconds: float) -> str | None:
        """Deliver what is queued, waiting that long at most; what was not delivered is in the spool.

        Returns:
            None where everything arrived, else what stood in the way.
        """
        self._put(None)
        self._thread.join(seconds)
        return self._writer.trouble if not self._thread.is_alive() else "MLflow is still answering slowly"

    def _note(self, job: Job, tags: Mapping[str, str] | None = None, **fields: Any) -> Notes:
        role = TRIAL if job.phase == "search" else CONFIRM_ROLE
        own = {
            "study.cell": job.cell.name,
            "study.arm": job.cell.arm,
            "study.repeat": str(job.repeat),
            "study.trial": str(job.number),
        }
        return Notes(
            job.key, _cell_place(job.cell.name)[0], job.key, self._with_tags(role, own | dict(tags or {})), **fields
        )

    def _with_tags(self, role: str, tags: Mapping[str, str]) -> dict[str, str]:
        return {**self._tags, "study.role": role, **tags}

    def _put(self, notes: Notes | None) -> None:
        self._queue.put(notes)


class _Writer:
    """The thread's side."""

    def __init__(self, make_store: Callable[[], RunStore], spool: Path, notes: queue.Queue[Notes | None]) -> None:
        self._make_store = make_store
        self._store: RunStore | None = None
        self._spool = spool
        self._queue = notes
        self._gathered: dict[str, Notes] = {}
        self._next_try = 0.0
        self.trouble: str | None = None

    def run(self) -> None:
        due = time.monotonic() + FLUSH_SECONDS
        open_queue = True
        while open_queue:
            try:
                notes = self._queue.get(timeout=max(due - time.monotonic(), 0.01))
                if notes is None:
                    open_queue = False
                else:
                    self._gather(notes)
            except queue.Empty:
                pass
            if not open_queue or time.monotonic() >= due:
                self._deliver(last=not open_queue)
                due = time.monotonic() + FLUSH_SECONDS

    def _gather(self, notes: Notes) -> None:
        if notes.key in self._gathered:
            self._gathered[notes.key].merge(notes)
        else:
            self._gathered[notes.key] = notes

    def _deliver(self, *, last: bool) -> None:
        gathered, self._gathered = list(self._gathered.values()), {}
        if self._next_try > time.monotonic() and not last:
            self._keep(gathered)
            return
        try:
            if self._store is None:
                store = self._make_store()
                store.open()
                self._store = store
            if self._spool.exists():
                gathered = self._spooled() + gathered
                self._keep(gathered, anew=True)
                self._write_all(gathered)
                self._spool.unlink()
            else:
                self._write_all(gathered)
            self.trouble = None
        except Exception as error:  # whatever MLflow, its database or the network raise: a study goes on without them
            self.trouble = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
            self._next_try = time.monotonic() + RETRY_SECONDS
            if not self._spool.exists():
                self._keep(gathered)

    def _write_all(self, gathered: list[Notes]) -> None:
        assert self._store is not None
        for notes in gathered:
            self._store.write(notes)

    def _keep(self, gathered: list[Notes], *, anew: bool = False) -> None:
        with self._spool.open("w" if anew else "a", encoding="utf-8") as file:
            file.writelines(json.dumps(notes.__dict__) + "\n" for notes in gathered)

    def _spooled(self) -> list[Notes]:
        found = []
        for line in self._spool.read_text(encoding="utf-8").splitlines():
            try:
                fields = json.loads(line)
            except ValueError:
                continue  # a line torn by a kill
            fields["metrics"] = [tuple(metric) for metric in fields["metrics"]]
            found.append(Notes(**fields))
        return found


def _cell_place(cell: str) -> tuple[str, str, str]:
    return f"cell:{cell}", "study", cell


def _now() -> int:
    return int(time.time() * 1000)


def _plain_metrics(metrics: Mapping[str, float]) -> list[tuple[str, float, int, int]]:
    now = _now()
    return [(name, float(value), 0, now) for name, value in metrics.items() if math.isfinite(value)]


def _texts(params: Mapping[str, object]) -> dict[str, str]:
    return {name: str(value)[:5000] for name, value in params.items()}


def _flat(params: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in params.items():
        if isinstance(value, Mapping):
            # Hyperparameters are what people compare: they stand without a prefix.
            flat |= _flat(value, "" if name == "hyperparameters" else f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
