"""A trial as Ray Tune sees it: a class whose `step` hands over the epochs that a training thread has reported.

Tune hears of a trial at its rungs, where the thread waits for the verdict, at its end, and otherwise every
`REPORT_SECONDS`: short epochs travel together, long ones leave a heartbeat, so that a stop request never waits for an
epoch to end.
"""

from __future__ import annotations

import queue
import threading
import time
from pathlib import Path
from typing import Any

from ray import tune

REPORT_SECONDS = 1.0
STOP_SECONDS = 6.0

# Keys of a trial's config and of a result, beside Tune's own.
JOB = "job"
CONFIG = "trial"
CHECKPOINTS = "checkpoints"
RUNGS = "rungs"
METRIC = "metric"
USE_GPU = "use_gpu"
REPORTS = "reports"
OUTCOME = "outcome"
FACTS = "facts"


class TrainingThread:
    """One training run beside the actor's own thread."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = config
        self._rungs = frozenset(config[RUNGS])
        self._items: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._go = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=config[JOB], daemon=True)
        self._thread.start()

    def collect(self) -> tuple[list[dict[str, float]], dict[str, Any] | None, dict[str, Any] | None]:
        """Wait for news: further reports, and the outcome (with the trial's facts when first known) once it is there.

        Returns early at a rung; raises what the thread raised.
        """
        self._go.set()
        reports: list[dict[str, float]] = []
        facts: dict[str, Any] | None = None
        deadline = time.monotonic() + REPORT_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            try:
                kind, item = self._items.get(timeout=left)
            except queue.Empty:
                break
            if kind == "error":
                raise item
            if kind == "outcome":
                return reports, item, facts
            if kind == "facts":
                facts = item
                continue
            reports.append(item)
            if int(item["epoch"]) in self._rungs:
                break
        return reports, None, facts

    def stop(self, seconds: float) -> bool:
        """Ask the run to stop and wait; False where it did not within that time."""
        self._stop.set()
        self._go.set()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        # Imported here: torch costs seconds, and the driver that pickles the class needs none of it.
        try:
            from trainables.config import TrialConfig
            from trainables.loop import describe
            from trainables.trial import run_trial

            config = TrialConfig.from_dict(self._config[CONFIG])
            self._items.put(("facts", describe(config)))
            outcome = run_trial(
                config,
                self._report,
                name=str(self._config[JOB]).replace("/", "_"),
                checkpoint_dir=Path(self._config[CHECKPOINTS]),
                should_stop=self._stop.is_set,
                use_gpu=self._config[USE_GPU],
            )
            self._items.put(("outcome", {"status": outcome.status, "epochs": outcome.epochs, "reason": outcome.reason}))
        except Exception as error:
            self._items.put(("error", error))

    def _report(self, report: dict[str, float]) -> None:
        at_rung = int(report["epoch"]) in self._rungs
        if at_rung:
            self._go.clear()
        self._items.put(("report", dict(report)))
        if at_rung:
            self._go.wait()  # for the verdict; a stop ends the wait too, and the loop asks for it next


class StudyTrial(tune.Trainable):
    """The trial actor. It is reused: nothing of one trial outlives `reset_config`."""

    def setup(self, config: dict[str, Any]) -> None:
        self._training: TrainingThread | None = None
        self._epoch = 0
        self._last: dict[str, float] = {}

    def step(self) -> dict[str, Any]:
        if self._training is None:
            self._training = TrainingThread(self.config)
        reports, outcome, facts = self._training.collect()
        if reports:
            self._last = reports[-1]
            self._epoch = int(self._last["epoch"])
        result: dict[str, Any] = {REPORTS: reports, "training_iteration": self._epoch}
        if self.config[METRIC] in self._last and reports:
            result[self.config[METRIC]] = self._last[self.config[METRIC]]
        if facts is not None:
            result[FACTS] = facts
        if outcome is not None:
            result |= {OUTCOME: outcome, "done": True}
        return result

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        # A thread that cannot be stopped would train beside the next trial: better a fresh actor.
        if not self._end_training():
            return False
        self.config = new_config
        self.setup(new_config)
        return True

    def cleanup(self) -> None:
        self._end_training()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: the training loop keeps the trial's checkpoints in the trial's own folder."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing: a trial that starts anew finds its own checkpoint."""

    def log_result(self, result: dict[str, Any]) -> None:
        """Nothing: results go to the driver alone."""

    def _end_training(self) -> bool:
        training, self._training = self._training, None
        return training is None or training.stop(STOP_SECONDS)
