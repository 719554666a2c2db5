"""Early stopping that compares like with like: each search has its own ASHA, on the block's common rungs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from study.jobs import Job
from study.plan import Block
from study.records import DIVERGED, FAILED, SEARCH, TrialRecord
from study.sweep.trainable import JOB, OUTCOME

EPOCH = "training_iteration"


@dataclass(frozen=True)
class _Entry:
    """What ASHA knows of a trial. Named by job, not by Tune's own id, which changes when a study is resumed."""

    trial_id: str


class Rungs:
    """The ASHA of one search: rung by rung the top 1/reduction_factor of this search's trials go on."""

    def __init__(self, block: Block, metric: str, reduction_factor: int) -> None:
        self._rungs = block.rungs
        self._metric = metric
        self._asha = ASHAScheduler(
            time_attr=EPOCH,
            metric=metric,
            mode="max",
            grace_period=block.rungs[0],
            max_t=block.epochs,
            reduction_factor=reduction_factor,
            stop_last_trials=False,
        )
        self._known: set[str] = set()

    def survives(self, key: str, epoch: int, value: float) -> bool:
        """Record a trial's value and say whether it may go on. Between rungs, and at a rung that it passed, it may."""
        if epoch not in self._rungs:
            return True
        entry = _Entry(key)
        if key not in self._known:
            self._known.add(key)
            self._asha.on_trial_add(None, entry)
        decision = self._asha.on_trial_result(None, entry, {EPOCH: epoch, self._metric: value})
        return decision != TrialScheduler.STOP

    def diverged(self, key: str, epoch: int, value: float) -> None:
        """A diverged trial stands with its worst value at every rung that it did not reach."""
        for rung in self._rungs:
            if rung >= epoch:
                self.survives(key, rung, value)

    def recorded(self) -> dict[int, dict[str, float]]:
        """Rung -> trial -> value, for a look from outside."""
        return {int(epoch): dict(values) for epoch, values in reversed(self._asha._brackets[0]._rungs)}


class EarlyStopping(FIFOScheduler):
    """Hands each search trial to its own search's rungs; confirm runs always train to the end."""

    def __init__(self, job_of: Callable[[str], Job], metric: str, method: str, reduction_factor: int) -> None:
        super().__init__()
        self._job_of = job_of
        self._study_metric = metric
        self._method = method
        self._reduction_factor = reduction_factor
        self._searches: dict[tuple[str, int], Rungs] = {}

    def rungs_of(self, job: Job) -> Rungs | None:
        """The rungs of the job's search; None where nothing is stopped early."""
        if self._method == "none" or job.phase != SEARCH or not job.cell.block.rungs:
            return None
        place = (job.cell.name, job.repeat)
        if place not in self._searches:
            self._searches[place] = Rungs(job.cell.block, self._study_metric, self._reduction_factor)
        return self._searches[place]

    def replay(self, jobs: Iterable[tuple[Job, TrialRecord]]) -> None:
        """Rebuild the rungs from what the ledger holds, in order of start."""
        for job, record in jobs:
            rungs = self.rungs_of(job)
            if rungs is None or record.state == FAILED:
                continue
            for epoch in sorted(record.curve):
                rungs.survives(job.key, epoch, record.curve[epoch])
            if record.state == DIVERGED and record.value is not None:
                rungs.diverged(job.key, record.epochs, record.value)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: Mapping[str, Any]) -> str:
        job = self._job_of(trial.config[JOB])
        rungs = self.rungs_of(job)
        value = result.get(self._study_metric)
        if rungs is None or value is None:
            return TrialScheduler.CONTINUE
        go_on = rungs.survives(job.key, int(result[EPOCH]), float(value))
        return TrialScheduler.CONTINUE if go_on else TrialScheduler.STOP

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: Mapping[str, Any]) -> None:
        # Tune flattens what a trial returns.
        if result.get(f"{OUTCOME}/status") != DIVERGED:
            return
        job = self._job_of(trial.config[JOB])
        rungs = self.rungs_of(job)
        if rungs is not None:
            rungs.diverged(job.key, int(result[EPOCH]), float(result[self._study_metric]))

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles what it is given, but a study is resumed from its ledger alone."""
        return {}
