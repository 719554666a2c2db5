"""The training loop: a config and a `report` callable in, an outcome out. Plain PyTorch, without Ray."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trainables.checkpoint import CheckpointStore
from trainables.clock import Moments
from trainables.config import ConfigError, TrialConfig
from trainables.diagnostics.collect import Diagnostics
from trainables.diagnostics.layer_table import LayerTable
from trainables.epoch import Hooks, Progress, train_epoch
from trainables.facts import Facts, facts_of, utilisation
from trainables.isolation import isolated, resolve_device
from trainables.measure import DivergedError, evaluate, require_finite_parameters, training_scores, worst_scores
from trainables.memory import memory_advice
from trainables.session import Session, build_session

Report = dict[str, float]

TIMING_KEYS: Final = frozenset({"images_per_second", "mfu", "epoch_seconds", "diagnostics_seconds", "target/seconds"})
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


def _tell_nobody(values: object) -> None:
    pass


def train(
    config: TrialConfig,
    report: Callable[[Report], None],
    *,
    learn: Callable[[Facts], None] = lambda facts: None,
    record: Callable[[LayerTable], None] | None = None,
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

    Diagnostics (`config.diagnostics`) change nothing of training and add, of what is on: layers/lwn_median,
    layers/lgn_median, layers/lnr_median, layers/lnr_max, layers/trust_ratio_median (over the epoch's records and the
    tensors with more than one dimension); curvature/largest, curvature/smallest (eigenvalues of the Hessian),
    curvature/residual (the larger one's of both), curvature/sam_sharpness; noise/scale (in samples; left out where the
    squared gradient comes out negative), noise/gradient_squared, noise/variance (of one sample's gradient),
    noise/batch_variance (of a batch's: noise/variance over batch_size); target/reached, target/epochs, target/steps,
    target/seconds (see `time_to_target`); diagnostics_seconds, what all this cost beside training, as part of
    epoch_seconds. `record` takes each epoch's layer statistics, on the first worker and before the checkpoint;
    `LayerFile(path).append` writes them to a file.

    With `checkpoint_dir` the trial goes on where it was: the reports of the epochs already trained are
    repeated first, and what follows equals an uninterrupted run (CPU: bit for bit). A checkpoint is written
    before its epoch is reported. `should_stop` is asked after each report but the last, and every half
    second in between.

    `learn` is told the trial's constant facts (see `trainables.facts`) before the first report. With several workers
    (torch.distributed is initialised with as many as the config says) every one of them calls this: each trains on its
    share of every batch; the first one alone reports, is asked to stop and writes checkpoints, which all of them read.
    A device whose peak is known adds mfu: the model's FLOPs over what its devices could do in the time of training.

    Raises ConfigError or, from the arm, ValueError for a config that cannot be trained,
    CheckpointMismatchError for another config's checkpoints, LowDiskError, MemoryAdviceError where the device's memory
    is not enough, and whatever `report` raises.
    """
    device = resolve_device(config.device)
    with isolated(device), ExitStack() as stack:
        with memory_advice(
            f"model {config.model} with its data, {config.data.name},",
            device,
            "end what else fills it, or take a device with more; a smaller micro-batch would not help",
        ):
            session = stack.enter_context(closing(build_session(config)))
        store = None
        if checkpoint_dir is not None:
            store = CheckpointStore(
                checkpoint_dir,
                config.digest(),
                every_epochs=config.checkpoint_every_epochs,
                keep=config.keep_checkpoints,
            )
        with memory_advice(
            f"a micro-batch of {config.micro_batch_size} images",
            device,
            "lower train.micro_batch_size for the whole block (`python -m study.calibrate` finds it); it is never "
            "changed in a running study",
        ):
            return _run(session, report, learn, Diagnostics(session, record), store, should_stop)


def _run(
    session: Session,
    report: Callable[[Report], None],
    learn: Callable[[Facts], None],
    diagnostics: Diagnostics,
    store: CheckpointStore | None,
    should_stop: Callable[[], bool],
) -> Outcome:
    epochs, workers = session.config.epochs, session.workers
    facts = facts_of(session) | diagnostics.facts()
    if workers.rank > 0:
        report = learn = _tell_nobody
    learn(dict(facts))
    checkpoint = store.load(session.device) if store else None
    history: list[Report] = session.restore(checkpoint) if checkpoint else []
    if not workers.same(len(history)):
        raise ConfigError("the workers see different checkpoints: their folder must be one that all nodes share")
    writer = store if workers.rank == 0 else None
    for past in history:
        report(dict(past))
        if past["epoch"] < epochs and workers.agree(should_stop()):
            return Outcome("stopped", int(past["epoch"]), None, past)
    look = Moments(workers, POLL_SECONDS).due
    hooks = Hooks(poll=_poller(session, should_stop), look=look, stepped=diagnostics.stepped)
    for epoch in range(len(history) + 1, epochs + 1):
        try:
            current, reason = _epoch(session, epoch, hooks, facts, diagnostics)
        except _StopRequestedError:
            break
        current |= diagnostics.target(history if reason is not None else [*history, current])
        if reason is not None:
            report(dict(current))
            return Outcome("diverged", epoch, reason, current)
        history.append(current)
        if writer:
            writer.offer(epoch, session.state(history), last=epoch == epochs, score=current["val/accuracy"])
        report(dict(current))
        if epoch < epochs and workers.agree(should_stop()):
            break
    else:
        return Outcome("complete", epochs, None, history[-1])
    if writer:
        writer.flush()
    return Outcome("stopped", len(history), None, history[-1] if history else {})


def _epoch(
    session: Session, epoch: int, hooks: Hooks, facts: Facts, diagnostics: Diagnostics
) -> tuple[Report, str | None]:
    """Train and evaluate one epoch: its report and, where it diverged, why."""
    started = time.perf_counter()
    last = epoch == session.config.epochs
    progress = Progress()
    scores: Report = {}
    reason = None
    diagnostics.start(epoch)
    try:
        scores |= training_scores(session, train_epoch(session, epoch, progress, hooks))
        require_finite_parameters(session)
        scores |= evaluate(session, "validation", hooks.poll, last=last)
        if session.config.evaluate_test and last:
            scores |= evaluate(session, "test", hooks.poll, last=last)
    except DivergedError as error:
        reason = f"{error} after {progress.step} steps, in epoch {epoch}"
        scores = worst_scores(session, "train") | scores
        scores |= worst_scores(session, "validation")
        if session.config.evaluate_test:
            scores |= worst_scores(session, "test")
    measured = diagnostics.finish(epoch, progress.step, hooks.poll, diverged=reason is not None)
    last_step = max(progress.step - 1, 0)
    phi, norm_error = session.arm.phi(last_step), progress.norm_standard_error
    return {
        "epoch": float(epoch),
        **scores,
        "lr_effective": float(session.arm.lr_effective(last_step)),
        **({} if phi is None else {"phi": float(phi)}),
        **({} if norm_error is None else {"clars/norm_standard_error": norm_error}),
        **measured,
        "images_per_second": progress.images_per_second,
        **utilisation(facts, progress.images_per_second),
        "epoch_seconds": time.perf_counter() - started,
        "steps": float(progress.step),
        "diverged": 0.0 if reason is None else 1.0,
    }, reason


def _poller(session: Session, should_stop: Callable[[], bool]) -> Callable[[], None]:
    """A callable that asks `should_stop` every half second at most and raises where the answer is yes."""
    moments = Moments(session.workers, POLL_SECONDS)

    def poll() -> None:
        if moments.due() and session.workers.agree(should_stop()):
            raise _StopRequestedError

    return poll
