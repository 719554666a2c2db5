"""The training loop: a config and a `report` callable in, an outcome out. Plain PyTorch, without Ray."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from trainables.checkpoint import CheckpointStore
from trainables.config import TrialConfig
from trainables.epoch import Progress, train_epoch
from trainables.isolation import isolated, resolve_device
from trainables.measure import (
    DivergedError,
    evaluate,
    require_finite_parameters,
    section,
    worst_section,
)
from trainables.session import Session, build_session

Report = dict[str, float]

TIMING_KEYS: Final = frozenset({"images_per_second", "epoch_seconds"})
"""Report keys that differ from run to run; all others are functions of the config (CPU: bit for bit)."""
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    status: "complete", "diverged" or "stopped". epochs: that have a report, the one that diverged included.
    reason: why it diverged. report: the last one; empty where it was stopped before the first.
    """

    status: str
    epochs: int
    reason: str | None
    report: Report


class _StopRequestedError(Exception):
    pass


def _never() -> bool:
    return False


def train(
    config: TrialConfig,
    report: Callable[[Report], None],
    *,
    checkpoint_dir: Path | None = None,
    should_stop: Callable[[], bool] = _never,
) -> Outcome:
    """Train one trial, reporting after every epoch.

    A report has: epoch (from 1), train/loss, train/accuracy (in training mode, over the epoch), val/loss,
    val/accuracy, lr_effective and phi (of the epoch's last step; phi where the arm has one),
    images_per_second (training alone), epoch_seconds, steps, diverged (0 or 1); the last one, with
    `evaluate_test`, test/loss, test/accuracy, test/correct and test/items. All values are finite floats.
    Metrics other than the losses are the task's. CLARS with `sample_norms` subset adds
    clars/norm_standard_error: the standard error of its mean norms over these norms, the mean over layers and
    the epoch's steps (not in the last report of a run that diverged so that it is not finite).

    With `checkpoint_dir` the trial goes on where it was: the reports of the epochs already trained are
    repeated first, and what follows equals an uninterrupted run (CPU: bit for bit). A checkpoint is written
    before its epoch is reported. `should_stop` is asked after each report but the last, and every half
    second in between.

    Raises ConfigError or, from the arm, ValueError for a config that cannot be trained,
    CheckpointMismatchError for another config's checkpoints, and whatever `report` raises.
    """
    device = resolve_device(config.device)
    with isolated(device), closing(build_session(config)) as session:
        store = None
        if checkpoint_dir is not None:
            store = CheckpointStore(checkpoint_dir, config.digest(), every_epochs=config.checkpoint_every_epochs)
        return _run(session, report, store, should_stop)


def _run(
    session: Session,
    report: Callable[[Report], None],
    store: CheckpointStore | None,
    should_stop: Callable[[], bool],
) -> Outcome:
    epochs = session.config.epochs
    checkpoint = store.load(session.device) if store else None
    history: list[Report] = session.restore(checkpoint) if checkpoint else []
    for past in history:
        report(dict(past))
        if past["epoch"] < epochs and should_stop():
            return Outcome("stopped", int(past["epoch"]), None, past)
    poll = _poller(should_stop)
    for epoch in range(len(history) + 1, epochs + 1):
        try:
            current, reason = _epoch(session, epoch, poll)
        except _StopRequestedError:
            break
        if reason is not None:
            report(dict(current))
            return Outcome("diverged", epoch, reason, current)
        history.append(current)
        if store:
            store.offer(epoch, session.state(history), last=epoch == epochs)
        report(dict(current))
        if epoch < epochs and should_stop():
            break
    else:
        return Outcome("complete", epochs, None, history[-1])
    if store:
        store.flush()
    return Outcome("stopped", len(history), None, history[-1] if history else {})


def _epoch(session: Session, epoch: int, poll: Callable[[], None]) -> tuple[Report, str | None]:
    """Train and evaluate one epoch: its report and, where it diverged, why."""
    started = time.perf_counter()
    splits = session.splits
    with_test = session.config.evaluate_test and epoch == session.config.epochs
    progress = Progress()
    scores: Report = {}
    reason = None
    try:
        scores |= section(session, "train", train_epoch(session, epoch, progress, poll))
        require_finite_parameters(session)
        scores |= section(session, "val", evaluate(session, splits.validation, poll))
        if with_test:
            scores |= section(session, "test", evaluate(session, splits.test, poll), counts=True)
    except DivergedError as error:
        reason = f"{error} after {progress.step} steps, in epoch {epoch}"
        scores = worst_section(session, "train", splits.train) | scores
        scores |= worst_section(session, "val", splits.validation)
        if session.config.evaluate_test:
            scores |= worst_section(session, "test", splits.test, counts=True)
    last_step = max(progress.step - 1, 0)
    phi, norm_error = session.arm.phi(last_step), progress.norm_standard_error
    return {
        "epoch": float(epoch),
        **scores,
        "lr_effective": float(session.arm.lr_effective(last_step)),
        **({} if phi is None else {"phi": float(phi)}),
        **({} if norm_error is None else {"clars/norm_standard_error": norm_error}),
        "images_per_second": progress.images_per_second,
        "epoch_seconds": time.perf_counter() - started,
        "steps": float(progress.step),
        "diverged": 0.0 if reason is None else 1.0,
    }, reason


def _poller(should_stop: Callable[[], bool]) -> Callable[[], None]:
    """A callable that asks `should_stop` every half second at most and raises where the answer is yes."""
    due = time.monotonic() + POLL_SECONDS

    def poll() -> None:
        nonlocal due
        if time.monotonic() >= due:
            if should_stop():
                raise _StopRequestedError
            due = time.monotonic() + POLL_SECONDS

    return poll


def describe(config: TrialConfig) -> dict[str, float | int | str]:
    """Constant facts of a trial, to be kept with it. What does not apply to its arm is left out."""
    device = resolve_device(config.device)
    with isolated(device), closing(build_session(config)) as session:
        return _facts(session, device)


def _facts(session: Session, device: torch.device) -> dict[str, float | int | str]:
    config = session.config
    arm, splits, last = session.arm, session.splits, session.total_steps - 1
    micro_batch = -(-config.batch_size // session.micro_batches)
    facts: dict[str, float | int | str] = {
        "parameters": sum(parameter.numel() for parameter in session.model.parameters()),
        "steps_per_epoch": session.steps_per_epoch,
        "total_steps": session.total_steps,
        "lr": config.lr,
        "micro_batch_size": config.micro_batch_size,
        "batchnorm_batch": micro_batch,
        "data_hash": splits.content_hash,
        "train_items": len(splits.train),
        "validation_items": len(splits.validation),
        "test_items": len(splits.test),
        "classes": splits.classes,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch_version": str(torch.__version__),
    }
    first_phi, last_phi = arm.phi(0), arm.phi(last)
    if first_phi is not None and last_phi is not None:
        facts |= {"phi_first": float(first_phi), "phi_last": float(last_phi)}
    decay_epochs, delay_epochs = (config.hyperparameters.get(f"{name}_epochs") for name in ("decay", "delay"))
    if isinstance(decay_epochs, (int, float)):
        facts["lambda"] = 1.0 / (decay_epochs * session.steps_per_epoch)
    if isinstance(delay_epochs, (int, float)):
        facts["delay_steps"] = float(delay_epochs * session.steps_per_epoch)
    if arm.sample_norms is not None:
        facts["sample_norms"] = arm.sample_norms.mode
        if arm.sample_norms.mode == "subset":
            facts["norm_samples"] = arm.sample_norms.subset_size  # of every micro-batch
    return facts
