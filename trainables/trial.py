"""The training loop under Ray Train, in this process or by a group of workers. The only module that knows `ray.train`.

Local mode (`num_workers=0`) trains in the process that calls it: no controller, no worker group, no second placement
group, so nothing can be left behind when a trial is stopped.

A worker group has one process a rank and Train's controller beside it, as an actor. The group borrows the trial's own
placement group, which goes when the trial goes; Train's own would outlive a killed trial and keep its CPUs. Rank 0's
reports travel through the controller, which exists anyway, to the trial.

It leans on what Ray Train keeps private (`TrainController`, `WorkerGroup`): pyproject.toml holds Ray to one minor
version, and tests/study/sweep/test_worker_groups_real.py notices what moves.
"""

from __future__ import annotations

import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError, WorkerHealthCheckTimeoutError
from ray.train.v2._internal.execution.context import get_train_context
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2._internal.execution.failure_handling import FailureDecision
from ray.train.v2._internal.execution.failure_handling.default import DefaultFailurePolicy
from ray.train.v2._internal.execution.scaling_policy.fixed import FixedScalingPolicy
from ray.train.v2._internal.execution.worker_group import WorkerGroup
from ray.train.v2._internal.execution.worker_group.placement_group_handle import DefaultPlacementGroupHandle
from ray.train.v2.api.exceptions import TrainingFailedError, WorkerGroupError

from trainables.config import TrialConfig
from trainables.diagnostics.layer_table import LayerTable
from trainables.facts import Facts
from trainables.group import (
    BEGUN,
    FACTS,
    LAYERS,
    LOST,
    OUTCOME,
    REPORT,
    TRACEBACK,
    CheckpointFolder,
    GroupPlan,
    Mailbox,
    Order,
    WorkersLostError,
)
from trainables.loop import Outcome, Report, train

# A rank whose peer died sees a broken connection, often before the death is known: its error waits, so that the
# controller finds a lost worker and not a bug.
LOSS_SECONDS = 5.0
_LOSSES = (WorkerHealthCheckFailedError, WorkerHealthCheckTimeoutError)

# The controller's class and the arguments of its constructor -> what its `get_result` returned.
Drive = Callable[[type, Mapping[str, Any]], Any]


def run_trial(
    config: TrialConfig,
    report: Callable[[Report], None],
    *,
    learn: Callable[[Facts], None],
    record: Callable[[LayerTable], None],
    name: str,
    folder: CheckpointFolder,
    should_stop: Callable[[], bool],
    use_gpu: bool = False,
) -> Outcome:
    """Train one trial in this process and return how it ended.

    Args:
        config: what to train.
        report: called after each epoch, in this thread.
        learn: called with the trial's constant facts, before the first report.
        record: called with each epoch's layer statistics, where the trial keeps them.
        name: the run's name; Ray takes it for the run's identity, so it must be the trial's own.
        folder: where the loop keeps its checkpoints and looks for one to go on from.
        should_stop: asked between steps; once true the loop writes a checkpoint and returns.
        use_gpu: whether the trial holds a GPU.
    """
    trainer = TorchTrainer(
        lambda: _train_in(folder, config, report, learn, record, should_stop),
        scaling_config=ScalingConfig(num_workers=0, use_gpu=use_gpu),
        run_config=RunConfig(name=name),
    )
    outcome = trainer.fit().return_value
    assert isinstance(outcome, Outcome)
    return outcome


def run_group(drive: Drive, plan: GroupPlan, *, name: str) -> None:
    """Start a group of workers that trains one order after another, until its controller is ended.

    Its processes cost some seconds each, mostly imports; so the group stays for all trials of its trial actor.

    Args:
        drive: runs the controller as an actor until it ends; it has the actor and with it the group's mailbox.
        plan: the group.
        name: the run's name.

    Raises:
        WorkersLostError: workers were lost, and `plan.restarts` of them were replaced for the same order.
        TrainingFailedError: a worker raised; its traceback is among the mail.
    """
    failures = FailureConfig(max_failures=plan.restarts, controller_failure_limit=plan.restarts)
    with tempfile.TemporaryDirectory(prefix="train-") as scratch:  # Train wants a place for checkpoints it never gets
        trainer = _GroupTrainer(
            _serve,
            train_loop_config={},
            scaling_config=ScalingConfig(
                num_workers=plan.workers, use_gpu="GPU" in plan.bundle, resources_per_worker={**plan.bundle}
            ),
            run_config=RunConfig(name=name, storage_path=scratch, failure_config=failures),
        )
        trainer.drive = drive
        try:
            trainer.fit()
        except WorkerGroupError as error:
            if _lost(error):
                raise WorkersLostError(_first_line(error)) from None
            raise


def _train_in(
    folder: CheckpointFolder,
    config: TrialConfig,
    report: Callable[[Report], None],
    learn: Callable[[Facts], None],
    record: Callable[[LayerTable], None],
    should_stop: Callable[[], bool],
    writes: bool = True,
) -> Outcome:
    def report_saved(epoch: Report) -> None:
        if writes:
            folder.saved()  # the loop writes a checkpoint before it reports its epoch
        report(epoch)

    try:
        place = folder.open()
        outcome = train(config, report_saved, learn=learn, record=record, checkpoint_dir=place, should_stop=should_stop)
        if writes:
            folder.saved()
        return outcome
    finally:
        folder.close()


def _serve(_: dict[str, Any]) -> None:
    """What every rank runs, inside an initialised process group: orders, until the process is ended."""
    context = get_train_context()
    number = 0
    while True:
        number, order = context.controller_actor.take.remote(number).future().result()
        _train_order(order, number, context.controller_actor, leader=context.get_world_rank() == 0)


def _train_order(order: Order, number: int, mailbox: Any, *, leader: bool) -> None:
    """Train one order; only rank 0 has something to tell."""
    stop_asked = mailbox.wait_for_stop.remote(number).future()
    stopped_at_rung = False

    def learn(facts: Facts) -> None:
        if leader:
            mailbox.deliver.remote(number, FACTS, facts)

    def record(table: LayerTable) -> None:
        mailbox.deliver.remote(number, LAYERS, table)

    def report(report: Report) -> None:
        nonlocal stopped_at_rung
        at_rung = int(report["epoch"]) in order.rungs
        # waited for: what is told later must not come first
        stopped = mailbox.deliver.remote(number, REPORT, dict(report), waits=at_rung).future().result()
        stopped_at_rung = stopped_at_rung or (at_rung and stopped)

    def should_stop() -> bool:
        return stopped_at_rung or stop_asked.done()

    try:
        config = TrialConfig.from_dict(order.config)
        _choose_device(config)
        if leader:
            mailbox.deliver.remote(number, BEGUN, None)
        outcome = _train_in(order.folder, config, report, learn, record, should_stop, writes=leader)
        if leader:
            mailbox.deliver.remote(number, OUTCOME, outcome)
    except Exception:
        text = traceback.format_exc()
        time.sleep(LOSS_SECONDS)
        mailbox.deliver.remote(number, TRACEBACK, text).future().result()
        raise


def _choose_device(config: TrialConfig) -> None:
    if config.device == "cuda":
        import torch
        from ray.train.torch import get_device

        # The workers of a node see each other's GPUs too.
        torch.cuda.set_device(get_device())


class _GroupTrainer(TorchTrainer):
    """Train's trainer with our controller, run as an actor by `drive`."""

    drive: Drive

    def _create_default_callbacks(self) -> list[Any]:
        callbacks = super()._create_default_callbacks()
        # There is no placement group of Train's own to clean up.
        return [callback for callback in callbacks if not isinstance(callback, PlacementGroupCleanerCallback)]

    def _initialize_and_run_controller(self, **parts: Any) -> Any:
        parts["scaling_policy"] = _FixedSize(self.scaling_config)
        parts["failure_policy"] = _LostWorkersReturn(self.run_config.failure_config)
        return self.drive(TrialController, parts)


class TrialController(Mailbox, TrainController):
    """Train's controller of one run, and the mailbox between the run's rank 0 and its trial."""

    def __init__(self, *, placement_group: Any, failure_policy: _LostWorkersReturn, **parts: Any) -> None:
        self.worker_group_cls = type("WorkersOfTrial", (_BorrowingWorkerGroup,), {"borrowed": placement_group})
        Mailbox.__init__(self)
        failure_policy.note = lambda text: self.post(LOST, text)
        self._failures = failure_policy
        TrainController.__init__(self, failure_policy=failure_policy, **parts)

    async def give(self, order: Order) -> int:
        """The trial's next order, whose lost workers are counted anew; returns its number."""
        self._failures.forget()
        return await super().give(order)


class _BorrowedPlacement(DefaultPlacementGroupHandle):
    def shutdown(self) -> None:
        """Nothing: it is the trial's."""


class _BorrowingWorkerGroup(WorkerGroup):
    """Workers in the bundles of the trial's placement group, the first of which holds the trial itself."""

    borrowed: Any

    def _create_placement_group(self, scaling_config: Any, worker_group_context: Any) -> _BorrowedPlacement:
        return _BorrowedPlacement(self.borrowed)

    def _create_workers(self, num_workers: int, *places: Any, **options: Any) -> Any:
        options["placement_group_bundle_indices"] = list(range(1, num_workers + 1))
        return super()._create_workers(num_workers, *places, **options)


class _FixedSize(FixedScalingPolicy):
    """Asks no autoscaler: the placement group is there, and Train's coordinator actor would outlive the study."""

    def after_controller_start(self, train_run_context: Any) -> None:
        """Nothing to register."""

    def _maybe_send_resource_request(self) -> None:
        """Nothing to ask for."""


class _LostWorkersReturn(DefaultFailurePolicy):
    """Train replaces lost workers; what the loop itself raises ends the run, and the sweep decides."""

    note: Callable[[str], None]

    def forget(self) -> None:
        """Count from nothing again."""
        self._worker_group_failures = self._controller_failures = 0

    def make_decision(self, training_failed_error: TrainingFailedError) -> FailureDecision:
        if isinstance(training_failed_error, WorkerGroupError) and not _lost(training_failed_error):
            return FailureDecision.RAISE
        decision = super().make_decision(training_failed_error)
        if decision is FailureDecision.RETRY:
            self.note(_first_line(training_failed_error))
        return decision


def _lost(error: WorkerGroupError) -> bool:
    return any(isinstance(failure, _LOSSES) for failure in error.worker_failures.values())


def _first_line(error: TrainingFailedError) -> str:
    if isinstance(error, WorkerGroupError):
        ranks = ", ".join(str(rank) for rank, failure in error.worker_failures.items() if isinstance(failure, _LOSSES))
        return f"worker {ranks} was lost: its process or its node ended"
    return f"the workers could not be started: {str(error).strip().splitlines()[-1]}"
