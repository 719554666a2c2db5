"""An arm at work: an optimizer, the schedule on its learning rate, and phi where the arm has one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, cast

import torch

from optim.base import NON_NEGATIVE, POSITIVE, checked_number
from optim.schedules import sigmoid_decay, warmup_cosine

Hyperparameters = Mapping[str, float | int | str | bool]

PAPER_GAMMA_MIN = 1e-3


@dataclass(frozen=True)
class PhiKnobs:
    """The arguments of `schedules.sigmoid_decay`."""

    lambda_: float  # per step
    delay_steps: float
    alpha: float
    gamma_min: float

    @classmethod
    def from_epochs(cls, hyperparameters: Hyperparameters, steps_per_epoch: int, batch_size_ratio: float) -> "PhiKnobs":
        """From `decay_epochs`, `delay_epochs`, `alpha` and `gamma_min` (a number or "paper_literal").

        Raises:
            ValueError: a value breaks its rule.
        """
        decay_epochs = checked_number("decay_epochs", hyperparameters["decay_epochs"], POSITIVE)
        delay_epochs = checked_number("delay_epochs", hyperparameters["delay_epochs"], NON_NEGATIVE)
        gamma_min = hyperparameters.get("gamma_min", 1e-3)
        if gamma_min == "paper_literal":
            gamma_min = checked_number("batch_size_ratio", batch_size_ratio, POSITIVE) * PAPER_GAMMA_MIN
        elif isinstance(gamma_min, str):
            raise ValueError(f"gamma_min must be a number or paper_literal, but got {gamma_min!r}")
        return cls(
            lambda_=1 / (decay_epochs * steps_per_epoch),
            delay_steps=delay_epochs * steps_per_epoch,
            alpha=checked_number("alpha", hyperparameters.get("alpha", 1.0), POSITIVE),
            gamma_min=checked_number("gamma_min", gamma_min, NON_NEGATIVE),
        )

    def phi(self, step: int) -> float:
        """phi at step t = 0, 1, 2, ..."""
        return sigmoid_decay(step, self.lambda_, self.delay_steps, self.alpha, self.gamma_min)


def schedule_factor(
    schedule: str,
    hyperparameters: Hyperparameters,
    phi: PhiKnobs | None,
    steps_per_epoch: int,
    total_steps: int,
) -> Callable[[int], float]:
    """The factor on lr as a function of the step.

    Raises:
        ValueError: the schedule is unknown, or its knobs break a rule.
    """
    if schedule == "constant":
        return lambda step: 1.0
    if schedule == "sigmoid" and phi is not None:
        return phi.phi
    if schedule == "cosine":
        return lambda step: warmup_cosine(step, 0, total_steps)
    if schedule == "warmup_cosine":
        epochs = checked_number("warmup_epochs", hyperparameters["warmup_epochs"], NON_NEGATIVE)
        warmup_steps = round(epochs * steps_per_epoch)
        start = cast(Literal["one", "zero"], hyperparameters.get("warmup_start", "one"))
        warmup_cosine(0, warmup_steps, total_steps, start=start)  # an illegal value should fail here, not in training
        return lambda step: warmup_cosine(step, warmup_steps, total_steps, start=start)
    raise ValueError(f"no schedule is called {schedule!r}")


class Arm:
    """An optimizer and its schedule. Call `prepare_step(t)` before the optimizer's step t = 0, 1, 2, ...

    Nothing here changes while training, so an arm resumes with its optimizer's `state_dict` alone.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        lr: float,
        factor: Callable[[int], float],
        phi_knobs: PhiKnobs | None,
        phi_in_optimizer: bool,
    ) -> None:
        self.optimizer = optimizer
        self.lr = lr
        self.phi_knobs = phi_knobs
        self._factor = factor
        self._phi_in_optimizer = phi_in_optimizer

    def prepare_step(self, step: int) -> None:
        """Set the learning rate of every group to its peak times the factor of this step."""
        factor = self.lr_factor(step)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor

    def lr_factor(self, step: int) -> float:
        """The schedule on lr; 1 where phi acts inside of the optimizer."""
        return self._factor(step)

    def phi(self, step: int) -> float | None:
        """phi at this step, or None for an arm without one."""
        return self.phi_knobs.phi(step) if self.phi_knobs else None

    def lr_effective(self, step: int) -> float:
        """lr times schedule, times phi where that acts inside of the optimizer; of the adapted tensors."""
        phi = self.phi(step) if self._phi_in_optimizer else None
        return self.lr * self.lr_factor(step) * (1.0 if phi is None else phi)
