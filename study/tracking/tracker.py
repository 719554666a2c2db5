"""What a study tells MLflow, from a background thread: the sweep never waits for it and never fails by it.

The driver's thread turns events into small plain notes, which go to a file and into a queue. The writer thread gathers
the notes of a run and delivers them together: a short trial costs three calls. The file is emptied once everything in
it has arrived; what it holds when a session ends, in whatever way, the next delivers. Telling twice changes nothing.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from study.jobs import Job
from study.records import Ending
from study.tracking.spool import Notes, Spool

FLUSH_SECONDS = 5.0
RETRY_SECONDS = 30.0
PATIENCE_SECONDS = 5.0  # for failures in one delivery: who refuses a run answers at once, who is dead does not
STUDY, CELL, TRIAL = "study", "cell", "trial"  # runs of other phases take the phase for their role


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
        self._queue: queue.SimpleQueue[Notes | None] = queue.SimpleQueue()
        self._spool = Spool(spool)
        for notes in self._spool.read():
            self._queue.put(notes)
        self._writer = _Writer(make_store, self._spool, self._queue)
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

    def trial_reports(self, job: Job, reports: Sequence[Mapping[str, float]]) -> None:
        """Epochs of a trial; the step of each metric is the epoch."""
        now = _now()
        metrics = [
            (name, float(value), int(report["epoch"]), now)
            for report in reports
            for name, value in report.items()
            if name != "epoch" and math.isfinite(value)
        ]
        self._put(self._note(job, metrics=metrics))

    def end_trial(self, job: Job, ending: Ending, artifacts: Sequence[Path] = ()) -> None:
        """Close a trial's run with its outcome and its files; one that is not there when its turn comes is left out."""
        tags = {"study.outcome": ending.state}
        if ending.reason:
            tags["study.reason"] = ending.reason[:5000]
        status = "FAILED" if ending.state == "failed" else "FINISHED"
        files = [str(path) for path in artifacts]
        self._put(self._note(job, tags=tags, artifacts=files, ended=status, end_ms=_now()))

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
        self.cut_off((*running, *self._cells, "study"))
        return self.close(seconds)

    def cut_off(self, keys: Sequence[str]) -> None:
        """Mark runs as KILLED."""
        for key in keys:
            self._put(Notes(key, None, key, ended="KILLED", end_ms=_now()))

    def close(self, seconds: float) -> str | None:
        """Deliver what is queued, waiting that long at most; what was not delivered is in the spool.

        Returns:
            None where everything arrived, else what stood in the way.
        """
        self._queue.put(None)
        self._thread.join(seconds)
        return self._writer.trouble if not self._thread.is_alive() else "MLflow is still answering slowly"

    def _note(self, job: Job, tags: Mapping[str, str] | None = None, **fields: Any) -> Notes:
        role = TRIAL if job.phase == "search" else job.phase
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

    def _put(self, notes: Notes) -> None:
        self._spool.add(notes, then=lambda: self._queue.put(notes))


class _Writer:
    """The thread's side: gathers each run's notes, delivers them, and keeps what did not arrive for another try."""

    def __init__(
        self, make_store: Callable[[], RunStore], spool: Spool, notes: queue.SimpleQueue[Notes | None]
    ) -> None:
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
        if self._next_try > time.monotonic() and not last:
            return
        self.trouble = None
        try:
            if self._store is None:
                store = self._make_store()
                store.open()
                self._store = store
            self._write_all(self._store)
        except Exception as error:  # whatever MLflow, its database or the network raise: a study goes on without them
            self._note_trouble(error)
        if self.trouble is not None:
            self._next_try = time.monotonic() + RETRY_SECONDS
        elif not self._gathered:
            self._spool.clear(unless=lambda: not self._queue.empty())

    def _write_all(self, store: RunStore) -> None:
        patience = time.monotonic() + PATIENCE_SECONDS
        for key, notes in list(self._gathered.items()):
            try:
                store.write(notes)
                del self._gathered[key]
            except Exception as error:
                self._note_trouble(error)
                # A run that the store refuses must not stand before the others for ever.
                if time.monotonic() > patience:
                    return

    def _note_trouble(self, error: Exception) -> None:
        lines = str(error).strip().splitlines()
        self.trouble = f"{type(error).__name__}: {lines[0] if lines else ''}"


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
