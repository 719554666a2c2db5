"""A trial as Ray Tune sees it: a class whose `step` hands over the epochs that a training run has reported.

Tune hears of a trial at its rungs, where the run waits for the verdict, at its end, and otherwise every
`REPORT_SECONDS`: short epochs travel together, long ones leave a heartbeat, so that a stop request never waits for an
epoch to end.
"""

from __future__ import annotations

from typing import Any

from ray import tune

from study.sweep.groups import GroupTraining, WorkerGroup, plan_of
from study.sweep.training import GROUP, JOB, TrainingThread

__all__ = ["FACTS", "JOB", "LAYERS", "LOSSES", "METRIC", "OUTCOME", "REPORTS", "StudyTrial"]

# Keys of a trial's config and of a result, beside Tune's own and those of study.sweep.training.
METRIC = "metric"
REPORTS = "reports"
OUTCOME = "outcome"
FACTS = "facts"
LOSSES = "losses"
LAYERS = "layers"

_CLOSE_SECONDS = 2.0


class StudyTrial(tune.Trainable):
    """The trial actor. It is reused: nothing of one trial outlives `reset_config` but an idle group of workers."""

    _group: WorkerGroup | None = None

    def setup(self, config: dict[str, Any]) -> None:
        self._training: TrainingThread | None = None
        self._epoch = 0
        self._last: dict[str, float] = {}

    def step(self) -> dict[str, Any]:
        if self._training is None:
            self._training = self._begin()
        news = self._training.collect()
        if news["reports"]:
            self._last = news["reports"][-1]
            self._epoch = int(self._last["epoch"])
        result: dict[str, Any] = {REPORTS: news["reports"], "training_iteration": self._epoch}
        if self.config[METRIC] in self._last and news["reports"]:
            result[self.config[METRIC]] = self._last[self.config[METRIC]]
        result |= {key: news[key] for key in (FACTS, LOSSES, LAYERS, OUTCOME) if key in news}
        return result | ({"done": True} if OUTCOME in news else {})

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        # A run that cannot be stopped would train beside the next trial: better a fresh actor.
        if not self._end_training():
            return False
        self.config = new_config
        self.setup(new_config)
        return True

    def cleanup(self) -> None:
        self._end_training()
        if self._group is not None:
            self._group.close(_CLOSE_SECONDS)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: the training loop keeps the trial's checkpoints in the trial's own folder."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing: a trial that starts anew finds its own checkpoint."""

    def log_result(self, result: dict[str, Any]) -> None:
        """Nothing: results go to the driver alone."""

    def _begin(self) -> TrainingThread:
        if not self.config[GROUP]:
            return TrainingThread(self.config)
        if self._group is None or not self._group.alive:
            self._group = WorkerGroup(plan_of(self.config))
        return GroupTraining(self.config, self._group)

    def _end_training(self) -> bool:
        training, self._training = self._training, None
        return training is None or training.stop()
