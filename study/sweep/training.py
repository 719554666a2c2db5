"""A training run beside the trial actor's own thread, in the actor's process."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Mapping
from typing import Any

from study.storage import checkpoint_folder

# Keys of what a trial is given.
JOB = "job"
CONFIG = "trial"
CHECKPOINTS = "checkpoints"
RUNGS = "rungs"
USE_GPU = "use_gpu"
GROUP = "group"

REPORT_SECONDS = 1.0
STOP_SECONDS = 6.0


class TrainingThread:
    """One training run in the trial actor's process."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given
        self._rungs = frozenset(given[RUNGS])
        self._items: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._go = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=given[JOB], daemon=True)
        self._thread.start()

    def collect(self) -> dict[str, Any]:
        """Wait for news: `reports` (maybe none), and `outcome`, `facts`, `losses` and `layers` where there are any.

        Returns early at a rung; raises what the thread raised.
        """
        self._go.set()
        news: dict[str, Any] = {"reports": []}
        deadline = time.monotonic() + REPORT_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            try:
                kind, item = self._items.get(timeout=left)
            except queue.Empty:
                break
            if kind == "error":
                raise item
            if kind in ("losses", "layers"):
                news.setdefault(kind, []).append(item)
            elif kind != "report":
                news[kind] = item
            else:
                news["reports"].append(item)
            if kind == "outcome" or (kind == "report" and int(item["epoch"]) in self._rungs):
                break
        return news

    def stop(self) -> bool:
        """Ask the run to stop and wait; False where it did not within its time."""
        self._stop.set()
        self._go.set()
        return self.ended_within(STOP_SECONDS)

    def ended_within(self, seconds: float) -> bool:
        """Wait for the run's end."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._items.put(("outcome", self._train()))
        except Exception as error:
            self._items.put(("error", error))

    def _train(self) -> dict[str, Any]:
        # Imported here: torch costs seconds, and the driver that pickles the class needs none of it.
        from trainables.config import TrialConfig
        from trainables.trial import run_trial

        config = TrialConfig.from_dict(self._given[CONFIG])
        outcome = run_trial(
            config,
            self._report,
            learn=lambda facts: self._items.put(("facts", facts)),
            record=lambda table: self._items.put(("layers", table)),
            name=str(self._given[JOB]).replace("/", "_"),
            folder=checkpoint_folder(self._given[CHECKPOINTS]),
            should_stop=self._stop.is_set,
            use_gpu=self._given[USE_GPU],
        )
        return {"status": outcome.status, "epochs": outcome.epochs, "reason": outcome.reason}

    def _report(self, report: Mapping[str, float]) -> None:
        at_rung = int(report["epoch"]) in self._rungs
        if at_rung:
            self._go.clear()
        self._items.put(("report", dict(report)))
        if at_rung:
            self._go.wait()  # for the verdict; a stop ends the wait too, and the loop asks for it next
