"""Scores of an epoch as report keys, and the check for divergence."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch

from trainables.evaluation import Evaluation
from trainables.session import Session
from trainables.totals import Totals

SECTIONS = {"train": "train", "validation": "val", "test": "test"}
_COUNTS = ("correct", "items")


class DivergedError(Exception):
    """Something that must be finite is not; the message says what, and its value."""


def evaluate(session: Session, split: str, poll: Callable[[], None], *, last: bool = False) -> dict[str, float]:
    """Report keys of "validation" or "test" by the session's task, in evaluation mode.

    Raises DivergedError where one of them is not finite.
    """
    session.model.eval()
    with torch.no_grad():
        scores = session.task.evaluate(Evaluation(session, poll, last), split)
    return _finite(SECTIONS[split], scores)


def training_scores(session: Session, totals: Totals) -> dict[str, float]:
    """Report keys of what was measured while training. Raises DivergedError where one of them is not finite."""
    loss, counts = totals.read()
    return _finite("train", {"loss": loss, **session.task.metrics(counts, totals.items)})


def worst_scores(session: Session, split: str) -> dict[str, float]:
    """The same keys for a split that a diverged run has no score on."""
    items = len(session.split(split))
    worst = session.task.worst(items)
    if split == "train":
        measured = session.task.metrics({"correct": worst["accuracy"] * items}, items)
        worst = {"loss": worst["loss"], **measured}
    elif split == "validation":
        worst = {name: value for name, value in worst.items() if name not in _COUNTS}
    return _keyed(SECTIONS[split], worst)


def require_finite_parameters(session: Session) -> None:
    """Raise DivergedError naming the first parameter with a NaN or an infinity; one wait for the device."""
    names, parameters = zip(*session.model.named_parameters(), strict=True)
    # largest magnitudes: a sum of squares would overflow long before the weights do
    norms = torch.stack(torch._foreach_norm([p.detach() for p in parameters], math.inf))
    for name, finite in zip(names, torch.isfinite(norms).tolist(), strict=True):
        if not finite:
            raise DivergedError(f"parameter {name} is not finite")


def _finite(section: str, scores: Mapping[str, float]) -> dict[str, float]:
    keyed = _keyed(section, scores)
    for key, value in keyed.items():
        if not math.isfinite(value):
            raise DivergedError(f"{key} is {value}")
    return keyed


def _keyed(section: str, scores: Mapping[str, float]) -> dict[str, float]:
    return {f"{section}/{name}": float(value) for name, value in scores.items()}
