"""The driver's middle: what the sweep reports goes to the ledger first, then to files, MLflow and the progress line.

It knows none of Ray, Optuna and MLflow; the sweep calls it, one event at a time.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from study.control import Control
from study.home import StudyHome
from study.interrupts import stop_requested
from study.jobs import Job, trial_config
from study.plan import Plan
from study.progress import Progress
from study.records import COMPLETE, CONFIRM, DIVERGED, FAILED, PRUNED, SEARCH, STOPPED_BY_USER, Ending, TrialRecord
from study.rungs import Verdict
from study.search.ledger import Ledger
from study.spec import Spec
from study.spending import Spending
from study.storage import Storage
from study.tracking.tracker import Tracker
from study.work import WorkQueue
from trainables.config import TrialConfig
from trainables.diagnostics.layer_table import LayerFile, LayerTable

Report = Mapping[str, float]
# A stopped trial's actor may still be writing its last checkpoint: its folder is cleared a while later.
CHECKPOINT_GRACE_SECONDS = 20.0
KEEP_SECONDS = 30.0  # between notes of what a session has spent: what a kill can make us forget
# A trial that cannot be trained as it is described: a mistake in the study file that only shows with its data and code.
_CONFIG_ERROR = re.compile(r"(?:[\w.]+\.)?ConfigError: (?P<what>.+)")
MOST_NOTED = 200  # characters of a crash on the console; its folder has the whole


class Coordinator:
    """One session's run of a study."""

    def __init__(
        self,
        spec: Spec,
        plan: Plan,
        home: StudyHome,
        ledger: Ledger,
        tracker: Tracker,
        progress: Progress,
        clock: Callable[[], float] = time.monotonic,
        storage: Storage | None = None,
        spending: Spending | None = None,
        keep: Callable[[], None] = lambda: None,
    ) -> None:
        self.plan = plan
        self.ended_by: str | None = None  # the budget that was spent before everything was done
        self.fault: str | None = None  # of the study file, which a trial met and any other would meet too
        self._spec = spec
        self._home = home
        self._storage = storage or Storage(home, None, "")
        self._ledger = ledger
        self._control = Control(home.control)
        self._queue = WorkQueue(plan, ledger, closed=self._control.requests().cells)
        self._tracker = tracker
        self._progress = progress
        self._clock = clock
        self._spending = spending or Spending(spec.budget, 1.0, clock=clock)
        self._keep = keep
        self._kept = clock()
        self._jobs: dict[str, Job] = {}
        self._started: dict[str, float] = {}
        self._last: dict[str, Report] = {}
        self._layers: dict[str, LayerFile] = {}
        self._settled: list[tuple[float, Job]] = []

    def start_job(self) -> Job | None:
        """The next job, entered everywhere as running; None where nothing can start now."""
        job = self._queue.next_job()
        if job is not None:
            self._enter(job)
        return job

    def _enter(self, job: Job) -> None:
        self._jobs[job.key] = job
        self._started[job.key] = self._clock()
        self._spending.started(job.key, job.cell.name)
        self._home.trial(job.folder).mkdir(parents=True, exist_ok=True)
        config = self.config_of(job)
        told = {**config.to_dict(), "lr": config.lr}
        del told["device"]  # "auto" here; the trial's facts name it
        self._tracker.begin_trial(job, told)
        self._progress.started(job.key)

    def stopping(self) -> bool:
        """Whether the sweep is to end now: a stop was asked for, the budget is spent, or no trial can be trained."""
        if self.ended_by is None and not self.finished():
            self.ended_by = self._spending.spent()
        return stop_requested() or self.ended_by is not None or self.fault is not None

    def settle_cut_off(self, stops: Callable[[Job, TrialRecord], Verdict | None]) -> None:
        """End the trials of an earlier session that were cut off at a rung which stops them; nothing of them is run.

        Args:
            stops: the verdict that ends a trial, if there is one.
        """
        for job in self._ledger.cut_off_jobs():
            verdict = stops(job, self._ledger.record(job.number))
            if verdict is not None:
                self._enter(job)
                self._last[job.key] = self._report_at(job, verdict.epoch, verdict.value)
                self._ledger.report(job, {verdict.epoch: verdict.value})
                self._end(job.key, PRUNED, None)

    def _report_at(self, job: Job, epoch: int, value: float) -> Report:
        """What a trial reported of an epoch in an earlier session."""
        with contextlib.suppress(OSError, ValueError), self._reports(job).open(encoding="utf-8") as file:
            for line in file:
                report = json.loads(line)
                if report["epoch"] == epoch:
                    return report
        return {"epoch": float(epoch), self.plan.metric: value}

    def _reports(self, job: Job) -> Path:
        return self._home.trial(job.folder) / "reports.jsonl"

    def finished(self) -> bool:
        """Whether nothing is left to start, now or later."""
        return self._queue.finished()

    def job(self, key: str) -> Job:
        return self._jobs[key]

    def config_of(self, job: Job) -> TrialConfig:
        return trial_config(self._spec, self.plan, job)

    def checkpoints_of(self, job: Job) -> str:
        return self._storage.of_trial(job.folder)

    def rungs_of(self, job: Job) -> Sequence[int]:
        """Epochs at which the job must wait for a verdict."""
        return job.cell.block.rungs if job.phase == SEARCH else ()

    def learn_facts(self, key: str, facts: Mapping[str, float | int | str]) -> None:
        """Keep what a trial says of itself: sizes, phi at both ends, data hash, device."""
        self._tracker.trial_facts(self._jobs[key], facts)

    def take_reports(self, key: str, reports: Sequence[Report]) -> None:
        """Enter further epochs. Epochs that were entered before (a resumed trial repeats them) change nothing."""
        if not reports:
            return
        job = self._jobs[key]
        self._last[key] = reports[-1]
        # A session that was killed may have told the ledger more than MLflow; the tracker drops what it has by itself.
        self._tracker.trial_reports(job, reports)
        known = self._ledger.record(job.number).epochs
        new = [report for report in reports if int(report["epoch"]) > known]
        if not new:
            return
        self._ledger.report(job, {int(report["epoch"]): float(report[self.plan.metric]) for report in new})
        with self._reports(job).open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(report) + "\n" for report in new)
        self._progress.epochs(len(new))

    def take_layers(self, key: str, tables: Sequence[LayerTable]) -> None:
        """Keep the layer statistics of further epochs beside the reports; they come before their epochs' reports."""
        if key not in self._layers:
            self._layers[key] = LayerFile(self._home.layers(self._jobs[key].folder))
        for table in tables:
            self._layers[key].append(table)

    def end_trained(self, key: str, status: str, reason: str | None) -> None:
        """A trial ended by itself: it trained to the end, or diverged."""
        state = DIVERGED if status == "diverged" else COMPLETE
        self._end(key, state, reason)

    def end_pruned(self, key: str) -> None:
        """A rung stopped a trial, or the user did."""
        asked = self.stop_asked(key)
        if asked:
            self._progress.note(f"{key} {STOPPED_BY_USER}")
        self._end(key, PRUNED, STOPPED_BY_USER if asked else None)

    def stop_asked(self, key: str) -> bool:
        """Whether the user wants a trial to end."""
        return key in self._control.requests().trials

    def note_crash(self, key: str, traceback: str, *, final: bool) -> None:
        """A trial raised or its process died; kept with the trial. A final crash makes it failed."""
        job = self._jobs[key]
        path = self._home.trial(job.folder) / "error.txt"
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {'failed' if final else 'crashed, tried again'}\n")
            file.write(traceback.rstrip() + "\n\n")
        reason = next((line.strip() for line in reversed(traceback.splitlines()) if line.strip()), "no message")
        self._layers.pop(key, None)  # what is tried again begins at its checkpoint, and drops what comes after it
        fault = _CONFIG_ERROR.match(reason)
        if fault:
            self.fault = self.fault or f"{fault['what']} (said by trial {job.key})"
            return
        self._progress.note(f"{job.key} {'failed' if final else 'crashed, trying again'}: {reason[:MOST_NOTED]}")
        if final:
            self._progress.note(f"  its traceback: {path}")
            self._end(key, FAILED, reason)

    def tick(self) -> None:
        """Now and then: the progress line, what the user asks for, and checkpoints that nobody needs any more."""
        self._progress.tick()
        if self._clock() - self._kept > KEEP_SECONDS:
            self._kept = self._clock()
            self._keep()
        for cell in self._queue.keep_closed(self._control.requests().cells):
            self._progress.note(f"{cell} starts no further trials: {STOPPED_BY_USER}")
        now = self._clock()
        while self._settled and now - self._settled[0][0] > CHECKPOINT_GRACE_SECONDS:
            self._drop_checkpoints(self._settled.pop(0)[1])

    def close(self) -> None:
        """After the sweep, when no actor is left: drop what settled trials still hold."""
        for _, job in self._settled:
            self._drop_checkpoints(job)
        self._settled.clear()
        self._storage.close()
        self._progress.close()

    def running(self) -> int:
        """How many jobs have started and not ended."""
        return len(self._started)

    def interrupted(self) -> tuple[str, ...]:
        """Keys of the jobs that were cut off; their checkpoints stay."""
        return tuple(self._started)

    def _end(self, key: str, state: str, reason: str | None) -> None:
        job = self._jobs[key]
        last = self._last.pop(key, {})
        value = last.get(self.plan.metric)
        ending = Ending(
            state=state,
            value=None if state == FAILED or value is None else float(value),
            epochs=int(last.get("epoch", 0)),
            metrics={name: float(number) for name, number in last.items()},
            reason=reason,
            wall_seconds=self._clock() - self._started.pop(key),
        )
        self._spending.ended(key)
        self._layers.pop(key, None)
        self._ledger.end(job, ending)
        kept = [self._home.layers(job.folder)] if self._spec.diagnostics.layer_statistics else []
        self._tracker.end_trial(job, ending, kept)
        self._progress.ended(job, ending)
        if not (job.phase == CONFIRM and state == COMPLETE):  # a winner's models stay: its newest and its best
            self._settled.append((self._clock(), job))

    def _drop_checkpoints(self, job: Job) -> None:
        self._storage.drop(job.folder)
