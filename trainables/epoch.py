"""One epoch of training: the global batch from micro-batches, the schedule per step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from trainables.isolation import derive_seed, generator
from trainables.measure import DivergedError, Totals
from trainables.session import Session

WATCH_SECONDS = 0.5
"""Between looks at the losses on a device where looking means waiting for it."""


@dataclass
class Progress:
    """How far a run came, also when an exception ended its epoch."""

    step: int = 0  # whole optimizer steps over all epochs
    images: int = 0  # trained on in this epoch
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


def train_epoch(session: Session, epoch: int, progress: Progress, poll: Callable[[], None]) -> Totals:
    """Train for epoch `epoch` (from 1) and return what the task measured on the way, in training mode.

    `poll` is called before every micro-batch and may raise to stop. Raises DivergedError at a loss that is
    not finite: at once on the CPU, where looking is free, elsewhere at the next look, naming the same step.
    """
    config, device = session.config, session.device
    items = len(session.splits.train)
    order = torch.randperm(items, generator=generator(config.seed, "order", epoch)).to(device)
    choices = session.augmentation.draw(items, generator(config.seed, "augmentation", epoch)).to(device)
    # what a model itself draws (dropout) restarts here too: a resumed run needs no random state
    torch.manual_seed(derive_seed(config.seed, "model", epoch))
    session.model.train()
    totals = Totals(device)
    losses = torch.zeros(session.steps_per_epoch, device=device)
    first_step = progress.step = (epoch - 1) * session.steps_per_epoch
    progress.images, progress.training_seconds = 0, 0.0
    progress.norm_errors.clear()
    seen = 0
    started = last_look = time.perf_counter()
    try:
        for index in range(session.steps_per_epoch):
            batch = order[index * config.batch_size : (index + 1) * config.batch_size]
            losses[index] = accumulate_gradient(session, batch, choices, totals, poll)
            if device.type == "cpu" or time.perf_counter() - last_look > WATCH_SECONDS:
                require_finite_losses(losses[seen : index + 1], first_step + seen, progress)
                seen, last_look = index + 1, time.perf_counter()
            session.arm.prepare_step(progress.step)
            session.arm.optimizer.step()
            norms = session.arm.sample_norms
            if norms is not None and norms.mode == "subset" and norms.latest is not None:
                progress.norm_errors.append(norms.latest.relative_standard_error())
            progress.step += 1
            progress.images += config.batch_size
        require_finite_losses(losses[seen:], first_step + seen, progress)
    finally:
        progress.training_seconds = time.perf_counter() - started
        session.arm.optimizer.zero_grad()
    return totals


def accumulate_gradient(
    session: Session, batch: Tensor, choices: Tensor, totals: Totals, poll: Callable[[], None]
) -> Tensor:
    """Leave the gradient of the mean loss over `batch` in the parameters; returns that loss, detached.

    `batch` (batch_size,) are places in the training split, `choices` the epoch's augmentation, one row per
    place.
    """
    session.arm.optimizer.zero_grad()
    loss = torch.zeros((), device=session.device)
    for indices in batch.tensor_split(session.micro_batches):
        poll()
        images, labels = session.splits.train.take(indices)
        images = session.augmentation.apply(images, choices[indices], session.splits.background)
        with session.autocast():
            measured = session.task.measure(session.model, images, labels)
        # each mean weighs as many samples as it stands for, so the sum is the mean over the whole batch
        share = measured["loss"] * (len(indices) / len(batch))
        torch.autograd.backward(share)
        loss += share.detach()
        totals.add(measured, len(indices))
    return loss


def require_finite_losses(losses: Tensor, first_step: int, progress: Progress) -> None:
    """Raise DivergedError at the first bad one of some steps' losses and set `progress` back to that step."""
    for index, loss in enumerate(losses.tolist()):
        if not math.isfinite(loss):
            progress.step = first_step + index
            raise DivergedError(f"train/loss is {loss}")
