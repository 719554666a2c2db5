"""A trial by a group of worker processes, on this node or others; the group stays for the actor's next trial."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from study.storage import checkpoint_folder
from study.sweep.training import CHECKPOINTS, CONFIG, GROUP, REPORT_SECONDS, TrainingThread
from trainables.group import (
    BEGUN,
    FACTS,
    LAYERS,
    LOST,
    OUTCOME,
    REPORT,
    TRACEBACK,
    GroupPlan,
    Order,
    WorkersLostError,
)

# Together less than a request to stop allows before everything is ended at once (study.interrupts).
STOP_SECONDS = 5.0
ABORT_SECONDS = 1.0
KILL_SECONDS = 1.0


class WorkerRaisedError(RuntimeError):
    """The loop raised in a worker; told with its traceback."""


class WorkerGroup:
    """Train's controller as an actor in the trial actor's own placement group, and the workers that it starts."""

    def __init__(self, plan: GroupPlan) -> None:
        self.controller: Any = None
        self._run: Any = None
        self._error: BaseException | None = None
        self._ending = False
        self._up = threading.Event()  # there is a controller, or there will be none
        self._plan = plan
        self._thread = threading.Thread(target=self._serve, name="worker-group", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it takes orders."""
        return self._thread.is_alive() and not self._ending

    def train(self, order: Order, read: Callable[[str, Any], None]) -> Any:
        """Have an order trained, each piece of mail given to `read`; returns the outcome.

        Raises:
            WorkersLostError, or what ended the group.
        """
        self._up.wait()
        if self.controller is not None:
            self.controller.give.remote(order)
        while self.controller is not None:
            news = self.controller.collect.remote(REPORT_SECONDS)
            done, _ = ray.wait([self._run, news], num_returns=1)
            mail = []
            with contextlib.suppress(ray.exceptions.RayActorError):  # then the run's own end says more
                mail = ray.get(news) if news in done else ray.get(self.controller.collect.remote(0.0))
            for kind, item in mail:
                if kind == OUTCOME:
                    return item
                read(kind, item)
            if self._run in done:
                break
        self._thread.join()
        raise self._error or RuntimeError("the worker group ended")

    def ask_stop(self) -> None:
        """Have the loop stop, with a checkpoint; the group stays."""
        self._tell(lambda controller: controller.ask_stop.remote())

    def abort(self) -> None:
        """Have Train's controller end the workers and itself."""
        self._ending = True
        self._tell(lambda controller: controller.abort.remote())

    def kill(self) -> None:
        """End the controller, and with it the workers, which are its own."""
        self._ending = True
        self._tell(ray.kill)

    def close(self, seconds: float) -> None:
        """End the group, which has no order."""
        self.kill()
        self._thread.join(seconds)

    def _tell(self, word: Callable[[Any], object]) -> None:
        controller = self.controller
        if controller is not None:
            with contextlib.suppress(ray.exceptions.RayError):
                word(controller)

    def _serve(self) -> None:
        from trainables.trial import run_group

        try:
            run_group(self._drive, self._plan, name=f"group-{uuid.uuid4().hex}")
        except BaseException as error:
            self._error = error
        finally:
            self._up.set()

    def _drive(self, controller_class: type, parts: Mapping[str, Any]) -> Any:
        place = ray.util.get_current_placement_group()
        beside_me = PlacementGroupSchedulingStrategy(place, 0, placement_group_capture_child_tasks=False)
        actor = ray.remote(num_cpus=0, scheduling_strategy=beside_me)(controller_class)
        controller = actor.remote(placement_group=place, **parts)
        self._run = controller.run.remote()
        self.controller = controller
        self._up.set()
        try:
            ray.get(self._run)
            return ray.get(controller.get_result.remote())
        finally:
            ray.kill(controller)


class GroupTraining(TrainingThread):
    """One training run by a worker group; the thread here reads its mail."""

    def __init__(self, given: Mapping[str, Any], group: WorkerGroup) -> None:
        self._group = group
        self._begun = False
        self._traceback: str | None = None
        super().__init__(given)

    def stop(self) -> bool:
        """Ask the loop to stop, then abort the group, then kill it; each has its time."""
        self._stop.set()
        self._go.set()
        # Where training has not begun nothing would be saved, and starting workers cannot be interrupted.
        gently = ((self._group.ask_stop, STOP_SECONDS), (self._group.abort, ABORT_SECONDS)) if self._begun else ()
        for end, seconds in (*gently, (self._group.kill, KILL_SECONDS)):
            if self.ended_within(0):
                return True
            end()
            if self.ended_within(seconds):
                return True
        return False

    def _train(self) -> dict[str, Any]:
        order = Order(self._given[CONFIG], checkpoint_folder(self._given[CHECKPOINTS]), self._rungs)
        try:
            outcome = self._group.train(order, self._read)
        except WorkersLostError as error:
            return {"status": "failed", "epochs": 0, "reason": str(error)}
        except Exception:
            if self._traceback is None:
                raise
            raise WorkerRaisedError(f"a worker raised\n{self._traceback}") from None
        return {"status": outcome.status, "epochs": outcome.epochs, "reason": outcome.reason}

    def _read(self, kind: str, item: Any) -> None:
        if kind == BEGUN:
            self._begun = True
        elif kind == FACTS:
            self._items.put(("facts", item))
        elif kind == LAYERS:
            self._items.put(("layers", item))
        elif kind == LOST:
            self._items.put(("losses", item))
        elif kind == TRACEBACK:
            self._traceback = self._traceback or item  # the first is the cause, the others its echo
        elif kind == REPORT:
            self._report(item)
            if int(item["epoch"]) in self._rungs and not self._stop.is_set():
                self._group.controller.go_on.remote()


def plan_of(given: Mapping[str, Any]) -> GroupPlan:
    """The group that a trial wants."""
    wanted = given[GROUP]
    return GroupPlan(wanted["workers"], wanted["bundle"], wanted["restarts"])
