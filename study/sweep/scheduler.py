"""Early stopping in Ray Tune: each search trial is judged at its own search's rungs, confirm runs never."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from study.jobs import Job
from study.records import COMPLETE, DIVERGED, FAILED, PRUNED, SEARCH, TrialRecord
from study.rungs import RungLog, Rungs, Verdict
from study.sections import EarlyStoppingSpec
from study.sweep.trainable import JOB, OUTCOME

EPOCH = "training_iteration"


class EarlyStopping(FIFOScheduler):
    """Hands each search trial to its own search's rungs.

    Args:
        job_of: the job with this key.
        metric: what a search maximises.
        stopping: the study file's section.
        log: where verdicts are kept as they are made; None keeps none.
    """

    def __init__(
        self, job_of: Callable[[str], Job], metric: str, stopping: EarlyStoppingSpec, log: RungLog | None = None
    ) -> None:
        super().__init__()
        self._job_of = job_of
        self._study_metric = metric
        self._stopping = stopping
        self._log = log
        self._searches: dict[tuple[str, int], Rungs] = {}

    def rungs_of(self, job: Job) -> Rungs | None:
        """The rungs of the job's search; None where nothing is stopped early."""
        if self._stopping.method == "none" or job.phase != SEARCH or not job.cell.block.rungs:
            return None
        place = (job.cell.name, job.repeat)
        if place not in self._searches:
            method, factor = self._stopping.method, self._stopping.reduction_factor
            self._searches[place] = Rungs(job.cell.block.rungs, method, factor)
        return self._searches[place]

    def replay(self, jobs: Iterable[tuple[Job, TrialRecord]]) -> None:
        """Rebuild the rungs from what the ledger holds, and verdicts from the log where a kill kept them from it."""
        logged: dict[tuple[str, int], Verdict] = {}
        by_trial: dict[str, dict[int, float]] = {}
        for verdict in self._log.read() if self._log else ():
            logged[verdict.trial, verdict.epoch] = verdict
            by_trial.setdefault(verdict.trial, {})[verdict.epoch] = verdict.value
        for job, record in jobs:
            rungs = self.rungs_of(job)
            if rungs is None or record.state == FAILED:
                continue
            values = {**by_trial.get(job.key, {}), **record.curve}
            for epoch in sorted(values):
                told = logged.get((job.key, epoch))
                goes_on = told.goes_on if told else _known_verdict(record, epoch)
                rungs.restore(job.key, epoch, values[epoch], goes_on)
            if record.state == DIVERGED and record.value is not None:
                for epoch in rungs.unreached(record.epochs):
                    rungs.restore(job.key, epoch, record.value, False)

    def stops(self, job: Job, record: TrialRecord) -> Verdict | None:
        """The verdict that ends a trial which was cut off at a rung, if one does: it need not be started again."""
        rungs = self.rungs_of(job)
        if rungs is None:
            return None
        for epoch, values in rungs.recorded().items():
            if job.key in values and epoch >= record.epochs and not self._judge(rungs, job, epoch, values[job.key]):
                return Verdict(job.key, epoch, values[job.key], False)
        return None

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        """Nothing: Tune then takes what is new in its queue.

        FIFO's choice, the first that is pending, has an actor on its way, which Tune would throw away for a reused one;
        where trials are shorter than an actor's start, the number at a time would never come up to the limit.
        """

    def on_trial_result(self, tune_controller: Any, trial: Any, result: Mapping[str, Any]) -> str:
        job = self._job_of(trial.config[JOB])
        rungs = self.rungs_of(job)
        value = result.get(self._study_metric)
        if rungs is None or value is None:
            return TrialScheduler.CONTINUE
        goes_on = self._judge(rungs, job, int(result[EPOCH]), float(value))
        return TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: Mapping[str, Any]) -> None:
        # Tune flattens what a trial returns.
        if result.get(f"{OUTCOME}/status") != DIVERGED:
            return
        job = self._job_of(trial.config[JOB])
        rungs = self.rungs_of(job)
        if rungs is None:
            return
        value = float(result[self._study_metric])
        for epoch in rungs.unreached(int(result[EPOCH])):
            rungs.restore(job.key, epoch, value, False)
            self._note(Verdict(job.key, epoch, value, False, diverged=True))

    def _judge(self, rungs: Rungs, job: Job, epoch: int, value: float) -> bool:
        if epoch not in job.cell.block.rungs:
            return True
        new = not rungs.decided(job.key, epoch)
        goes_on = rungs.survives(job.key, epoch, value)
        if new:
            self._note(Verdict(job.key, epoch, value, goes_on))
        return goes_on

    def _note(self, verdict: Verdict) -> None:
        if self._log is not None:
            self._log.add(verdict)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles what it is given, but a study is resumed from its ledger alone."""
        return {}


def _known_verdict(record: TrialRecord, epoch: int) -> bool | None:
    """What became of a trial after an epoch says what was decided there; None where it came no further."""
    if record.epochs > epoch or record.state == COMPLETE:
        return True
    return False if record.state in (PRUNED, DIVERGED) else None
