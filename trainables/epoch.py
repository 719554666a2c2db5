"""One epoch of training: the global batch from workers and micro-batches, the schedule per step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from trainables.clock import Stopwatch
from trainables.isolation import derive_seed, generator
from trainables.measure import DivergedError
from trainables.reduction import average_buffers, average_gradients
from trainables.session import Session
from trainables.tasks import CoupledTask
from trainables.tasks.coupled import coupled_gradient
from trainables.totals import Totals

_Images = tuple[Tensor, Tensor]  # raw, with their labels
_Read = Iterator[_Images]


@dataclass
class Progress:
    """How far a run came, also when an exception ended its epoch."""

    step: int = 0  # whole optimizer steps over all epochs
    images: int = 0  # trained on in this epoch, over all workers
    training_seconds: float = field(default=0.0)  # of this epoch, evaluation apart

    norm_errors: list[Tensor] = field(default_factory=list)  # of each step of this epoch, where norms are estimates

    @property
    def norm_standard_error(self) -> float | None:
        """Mean over the epoch's steps, relative; None without a step, or if it is not finite. Waits for the device."""
        error = float(torch.stack(self.norm_errors).mean()) if self.norm_errors else math.nan
        return error if math.isfinite(error) else None

    @property
    def images_per_second(self) -> float:
        return self.images / self.training_seconds if self.training_seconds > 0 else 0.0


@dataclass(frozen=True)
class Hooks:
    """What the loop does beside training. Each is called by every worker alike."""

    poll: Callable[[], None] = lambda: None
    """Before every micro-batch; may raise to stop."""
    look: Callable[[], bool] = lambda: True
    """After a step on a device where looking at a loss means waiting for it: whether to look now."""
    stepped: Callable[[int], None] = lambda step: None
    """After an optimizer step, with its number from 0 over all epochs."""


def train_epoch(session: Session, epoch: int, progress: Progress, hooks: Hooks) -> Totals:
    """Train for epoch `epoch` (from 1) and return what the task measured on the way, over all workers.

    Raises DivergedError at a loss that is not finite: at once on the CPU, where looking is free, elsewhere at the next
    look, naming the same step.
    """
    config, device = session.config, session.device
    items = len(session.splits.train)
    order = torch.randperm(items, generator=generator(config.seed, "order", epoch))
    steps = [order[index * config.batch_size :][: config.batch_size] for index in range(session.steps_per_epoch)]
    plan = [session.workers.share(batch).tensor_split(session.micro_batches) for batch in steps]
    read = session.splits.train.batches(chunk for chunks in plan for chunk in chunks)
    # what a model itself draws (dropout) restarts here too: a resumed run needs no random state
    torch.manual_seed(derive_seed(config.seed, f"model {session.workers.rank}", epoch))
    session.model.train()
    totals = Totals(device)
    losses = torch.zeros(session.steps_per_epoch, device=device)
    first_step = progress.step = (epoch - 1) * session.steps_per_epoch
    progress.images = 0
    progress.norm_errors.clear()
    seen = 0
    stopwatch = Stopwatch(device)
    try:
        for index, chunks in enumerate(plan):
            losses[index] = accumulate_gradient(session, epoch, chunks, read, totals, hooks.poll)
            if device.type == "cpu" or hooks.look():
                require_finite_losses(losses[seen : index + 1], first_step + seen, progress)
                seen = index + 1
            take_step(session, progress.step)
            norms = session.arm.sample_norms
            if norms is not None and norms.mode == "subset" and norms.latest is not None:
                progress.norm_errors.append(norms.latest.relative_standard_error())
            hooks.stepped(progress.step)
            progress.step += 1
            progress.images += config.batch_size
        require_finite_losses(losses[seen:], first_step + seen, progress)
    finally:
        progress.training_seconds = stopwatch.seconds()
        session.arm.optimizer.zero_grad()
    average_buffers(session.model, session.workers)
    return totals.over(session.workers)


def accumulate_gradient(
    session: Session,
    epoch: int,
    chunks: Sequence[Tensor],
    read: _Read,
    totals: Totals,
    poll: Callable[[], None],
) -> Tensor:
    """Leave the gradient of the global batch's mean loss in the parameters; returns that loss, detached.

    Args:
        session: of this worker.
        epoch: what augmentation is drawn for.
        chunks: places in the training split of this worker's micro-batches, (size,) int64 each.
        read: gives their raw images and labels, in this order.
        totals: takes what the task measures.
        poll: called before each micro-batch.
    """
    session.arm.optimizer.zero_grad()
    arriving = _arriving(chunks, read, poll)
    if isinstance(session.task, CoupledTask):
        loss = _coupled(session, session.task, epoch, arriving, totals)
    else:
        loss = _separable(session, epoch, arriving, totals)
    return average_gradients(session.model.parameters(), loss, session.workers)


def take_step(session: Session, step: int) -> None:
    """Let the optimizer use the gradients, with the learning rate of this step (from 0 over all epochs)."""
    session.arm.prepare_step(step)
    session.scaler.step(session.arm.optimizer)
    session.scaler.update()


def _arriving(chunks: Sequence[Tensor], read: _Read, poll: Callable[[], None]) -> Iterator[tuple[Tensor, _Images]]:
    """Places of each micro-batch with its raw images and labels."""
    for places in chunks:
        poll()
        images = next(read)
        if len(places):  # a worker may have fewer samples than others have micro-batches
            yield places, images


def _separable(session: Session, epoch: int, arriving: Iterable[tuple[Tensor, _Images]], totals: Totals) -> Tensor:
    loss = torch.zeros((), device=session.device)
    for places, (images, labels) in arriving:
        views = session.views(images, places, epoch)
        with session.autocast():
            measured = session.task.loss(session.network, views, labels)
        # Each mean weighs as many samples as it stands for, so the mean over workers of their sums is the mean over
        # the whole batch.
        share = measured["loss"] * (len(places) * session.workers.size / session.config.batch_size)
        torch.autograd.backward(session.scaler.scale(share))
        loss += share.detach()
        totals.add(measured, len(places))
    return loss


def _coupled(
    session: Session, task: CoupledTask, epoch: int, arriving: Iterable[tuple[Tensor, _Images]], totals: Totals
) -> Tensor:
    here = [(places, images) for places, (images, _) in arriving]
    measured = coupled_gradient(
        task,
        session.network,
        [partial(session.views, images, places, epoch) for places, images in here],
        session.workers,
        autocast=session.autocast,
        scale=session.scaler.scale,
    )
    totals.add(measured, sum(len(places) for places, _ in here))
    return measured["loss"].detach()


def require_finite_losses(losses: Tensor, first_step: int, progress: Progress) -> None:
    """Raise DivergedError at the first bad one of some steps' losses and set `progress` back to that step."""
    for index, loss in enumerate(losses.tolist()):
        if not math.isfinite(loss):
            progress.step = first_step + index
            raise DivergedError(f"train/loss is {loss}")
