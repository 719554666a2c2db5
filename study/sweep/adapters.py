"""Ray Tune's hooks, each a thin wire to the coordinator: what to run next, and what has happened."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from study.coordinator import Coordinator
from study.jobs import Job
from study.records import FAILED
from study.sweep.capacity import Limit, Need
from study.sweep.trainable import FACTS, LAYERS, LOSSES, METRIC, OUTCOME, REPORTS
from study.sweep.training import CHECKPOINTS, CONFIG, GROUP, JOB, RUNGS, USE_GPU


class WorkSearcher(Searcher):
    """Tune's searcher: the next job of the study's queue, as a trial's config, while the cluster holds another one.

    The limit is asked for each time: Tune's own would be fixed for the whole sweep.
    """

    def __init__(self, coordinator: Coordinator, need: Need, limit: Limit, *, restarts: int) -> None:
        super().__init__(metric=coordinator.plan.metric, mode="max")
        self._coordinator = coordinator
        self._need = need
        self._limit = limit
        self._restarts = restarts

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self._coordinator.stopping():
            return Searcher.FINISHED
        if self._coordinator.running() >= self._limit.now():
            return None
        job = self._coordinator.start_job()
        if job is None:
            return Searcher.FINISHED if self._coordinator.finished() else None
        return trial_input(self._coordinator, job, self._need, restarts=self._restarts)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: the callback sees more."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger holds it all."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: a study is resumed from its ledger."""

    def get_state(self) -> dict[str, Any]:
        return {}

    def __getstate__(self) -> dict[str, Any]:
        return {}


def trial_input(coordinator: Coordinator, job: Job, need: Need, *, restarts: int) -> dict[str, Any]:
    """What the trial actor is given: plain data only."""
    group = {"workers": need.workers, "bundle": dict(need.worker), "restarts": restarts}
    return {
        JOB: job.key,
        CONFIG: {**coordinator.config_of(job).to_dict(), "device": "cuda" if need.gpus else "cpu"},
        CHECKPOINTS: coordinator.checkpoints_of(job),
        RUNGS: list(coordinator.rungs_of(job)),
        METRIC: coordinator.plan.metric,
        USE_GPU: need.gpus > 0,
        GROUP: group if need.workers > 1 else None,
    }


class EventWire(Callback):
    """Tune's callback: tells the coordinator of reports, endings, retries and failures."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self._outcomes: dict[str, Mapping[str, Any]] = {}

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        key = trial.config[JOB]
        if FACTS in result:
            self._coordinator.learn_facts(key, result[FACTS])
        if result.get(LAYERS):
            self._coordinator.take_layers(key, result[LAYERS])
        if result.get(REPORTS):
            self._coordinator.take_reports(key, result[REPORTS])
        for loss in result.get(LOSSES, ()):
            self._coordinator.note_crash(key, loss, final=False)
        if result.get(OUTCOME):
            self._outcomes[key] = result[OUTCOME]

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        key = trial.config[JOB]
        # Tune ends a trial without an outcome of its own only where a rung stopped it.
        outcome = self._outcomes.pop(key, None)
        if outcome is None:
            self._coordinator.end_pruned(key)
        elif outcome["status"] == FAILED:
            self._coordinator.note_crash(key, str(outcome["reason"]), final=True)
        else:
            self._coordinator.end_trained(key, str(outcome["status"]), outcome.get("reason"))

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._coordinator.note_crash(trial.config[JOB], _traceback(trial), final=False)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._coordinator.note_crash(trial.config[JOB], _traceback(trial), final=True)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._coordinator.tick()

    def get_state(self) -> dict[str, Any] | None:
        return None

    def __getstate__(self) -> dict[str, Any]:
        return {}


class StopOnRequest(Stopper):
    """Ends the whole sweep, or a single trial, once the user or the system has asked for it."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return self._coordinator.stop_asked(result["config"][JOB])

    def stop_all(self) -> bool:
        return self._coordinator.stopping()

    def __getstate__(self) -> dict[str, Any]:
        return {}


def _traceback(trial: Any) -> str:
    """The newest error in the file that Tune keeps of a trial's errors."""
    try:
        text = Path(trial.error_file).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "the trial's process ended without an error message"
    newest = text.rpartition("Failure # ")[2].partition("\n")[2].strip()
    return re.sub(r"\x1b\[[0-9;]*m", "", newest)  # Ray colours it
