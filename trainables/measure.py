"""Sums over batches that stay on the device until they are read, evaluation, and the check for divergence."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from trainables.data import Split
from trainables.session import Session


class DivergedError(Exception):
    """Something that must be finite is not; the message says what, and its value."""


class Totals:
    """Loss and counts over batches of unequal size."""

    def __init__(self, device: torch.device) -> None:
        self.items = 0
        self._loss = torch.zeros((), dtype=torch.float64, device=device)
        self._counts: dict[str, Tensor] = {}

    def add(self, measured: Mapping[str, Tensor], items: int) -> None:
        """Take in what a task measured on `items` samples, without waiting for the device."""
        self.items += items
        self._loss += measured["loss"].detach() * items
        for name, count in measured.items():
            if name != "loss":
                known = self._counts.get(name)
                self._counts[name] = count.detach() if known is None else known + count.detach()

    def read(self) -> tuple[float, dict[str, float]]:
        """Mean loss and summed counts; waits for the device."""
        counts = {name: float(count) for name, count in self._counts.items()}
        return float(self._loss) / self.items, counts


def evaluate(session: Session, split: Split, poll: Callable[[], None]) -> Totals:
    """The task on a whole split, in evaluation mode and in chunks of the micro-batch size."""
    session.model.eval()
    totals = Totals(session.device)
    everything = torch.arange(len(split), device=session.device)
    with torch.no_grad():
        for start in range(0, len(split), session.config.micro_batch_size):
            poll()
            indices = everything[start : start + session.config.micro_batch_size]
            images, labels = split.take(indices)
            with session.autocast():
                measured = session.task.measure(session.model, images, labels)
            totals.add(measured, len(indices))
    return totals


def section(session: Session, name: str, totals: Totals, *, counts: bool = False) -> dict[str, float]:
    """Report keys of one split: val/loss, val/accuracy; with `counts` also val/correct, val/items.

    Raises DivergedError where one of them is not finite.
    """
    loss, summed = totals.read()
    keyed = _section(session, name, loss, summed, totals.items, counts)
    for key, value in keyed.items():
        if not math.isfinite(value):
            raise DivergedError(f"{key} is {value}")
    return keyed


def worst_section(session: Session, name: str, split: Split, *, counts: bool = False) -> dict[str, float]:
    """The same keys for a split that a diverged run has no score on."""
    summed = session.task.worst(len(split))
    return _section(session, name, summed.pop("loss"), summed, len(split), counts)


def _section(
    session: Session, name: str, loss: float, summed: dict[str, float], items: int, counts: bool
) -> dict[str, float]:
    values = {"loss": loss, **session.task.metrics(summed, items)}
    if counts:
        values |= {**summed, "items": float(items)}
    return {f"{name}/{key}": value for key, value in values.items()}


def require_finite_parameters(session: Session) -> None:
    """Raise DivergedError naming the first parameter with a NaN or an infinity; one wait for the device."""
    names, parameters = zip(*session.model.named_parameters(), strict=True)
    # largest magnitudes: a sum of squares would overflow long before the weights do
    norms = torch.stack(torch._foreach_norm([p.detach() for p in parameters], math.inf))
    for name, finite in zip(names, torch.isfinite(norms).tolist(), strict=True):
        if not finite:
            raise DivergedError(f"parameter {name} is not finite")
