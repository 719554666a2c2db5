"""An arm at work: an optimizer, the schedule on its learning rate, and phi where the arm has one."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, cast

import torch

from optim.base import NON_NEGATIVE, POSITIVE, checked_number
from optim.sample_norms import PerSampleNorms
from optim.schedules import sigmoid_decay, warmup_cosine
from optim.tvlars import TVLARS

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
            lambda_=1 / (decay_epochs * float(steps_per_epoch)),
            delay_steps=delay_epochs * float(steps_per_epoch),
            alpha=checked_number("alpha", hyperparameters.get("alpha", 1.0), POSITIVE),
            gamma_min=checked_number("gamma_min", gamma_min, NON_NEGATIVE),
        )

    def to_epochs(self, steps_per_epoch: int) -> dict[str, float]:
        """By the study's names, the inverse of `from_epochs`; a step count per epoch of at least 1.

        Raises:
            ValueError: lambda is 0, for which there is no decay in epochs.
        """
        if not self.lambda_ > 0:
            raise ValueError(f"0 < lambda_ must hold for a decay in epochs, but got (lambda_={self.lambda_})")
        return {
            "decay_epochs": 1 / (self.lambda_ * steps_per_epoch),
            "delay_epochs": self.delay_steps / steps_per_epoch,
            "alpha": self.alpha,
            "gamma_min": self.gamma_min,
        }

    def phi(self, step: int) -> float:
        """phi at step t = 0, 1, 2, ..."""
        return sigmoid_decay(step, self.lambda_, self.delay_steps, self.alpha, self.gamma_min)


def tvlars_matching(warmup_steps: int, total_steps: int, floor: float = 1e-3) -> PhiKnobs:
    """TVLARS's knobs that make phi end where a warm-up schedule does, without the warm-up.

    With W, T and floor those of `schedules.warmup_cosine`, phi equals that schedule exactly at three times:

        phi_W = 1                       where the warm-up has reached its peak
        phi_((W + T) / 2) = (1 + floor) / 2
        phi_T = floor                   at the end

    Before W, where the schedule climbs, phi lies between 1 and `1 + floor / 2`: the warm-up is all that it leaves
    out. So an arm with these knobs and the same lr takes nothing but the warm-up away.

    From phi's symmetry around `delay_steps`, with alpha = 1:
    `gamma_min = floor / 2`, `delay_steps = (W + T) / 2`, `lambda = 2 * log((1 - gamma_min) / gamma_min) / (T - W)`.

    Args:
        warmup_steps: W, `0 <= W < T`.
        total_steps: T.
        floor: the schedule's factor at the end, `0 < floor < 1`; phi never reaches 0.

    Raises:
        ValueError: an argument breaks its rule.

    Example:
        >>> knobs = tvlars_matching(warmup_steps=20, total_steps=100)
        >>> [round(knobs.phi(step), 4) for step in (0, 20, 60, 100)]
        [1.0005, 1.0, 0.5005, 0.001]
    """
    if not 0 <= warmup_steps < total_steps < math.inf:
        raise ValueError(
            "0 <= warmup_steps < total_steps must hold, but got "
            f"(warmup_steps={warmup_steps}, total_steps={total_steps})"
        )
    if not 0 < floor < 1:
        raise ValueError(f"0 < floor < 1 must hold, but got (floor={floor})")
    gamma_min = float(floor) / 2
    steepness = 2 * math.log((1 - gamma_min) / gamma_min) / float(total_steps - warmup_steps)
    return PhiKnobs(steepness, float(warmup_steps + total_steps) / 2, 1.0, gamma_min)


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

    Nothing here changes while training, so an arm resumes with its optimizer's `state_dict` alone. Made by
    `build_arm`.

    Args:
        optimizer: each of its groups has an `initial_lr`, the group's peak.
        lr: target learning rate of the adapted tensors.
        factor: the schedule, from the step to the factor on lr.
        phi_knobs: those of phi, for an arm that has one.
        phi_in_optimizer: whether phi acts inside of the optimizer (TVLARS) or is itself the schedule.
        sample_norms: what records the norms of per-sample gradients, for an arm that divides by them (CLARS).

    Example:
        >>> from optim import build_arm
        >>> parameters = torch.nn.Linear(2, 2).named_parameters()
        >>> arm = build_arm("lars", parameters, lr=2.0, steps_per_epoch=5, total_steps=10, hyperparameters={})
        >>> arm.prepare_step(5)
        >>> round(arm.optimizer.param_groups[0]["lr"], 4), round(arm.lr_effective(5), 4)
        (1.001, 1.001)
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        lr: float,
        factor: Callable[[int], float],
        phi_knobs: PhiKnobs | None = None,
        phi_in_optimizer: bool = False,
        sample_norms: PerSampleNorms | None = None,
    ) -> None:
        self.optimizer = optimizer
        self.lr = lr
        self.phi_knobs = phi_knobs
        self.sample_norms = sample_norms
        self._factor = factor
        self._phi_in_optimizer = phi_in_optimizer

    def prepare_step(self, step: int) -> None:
        """Set the learning rate of every group to its peak times the factor of this step, and the time of phi.

        So a step that is left out, as a gradient scaler does where one overflows, takes its time in every arm alike.
        """
        factor = self.lr_factor(step)
        for group in self.optimizer.param_groups:
            lr = group["initial_lr"] * factor
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(lr)  # a compiled or captured step reads this very tensor
            else:
                group["lr"] = lr
        if isinstance(self.optimizer, TVLARS):
            self.optimizer.set_time(step)

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

    def close(self) -> None:
        """Take what the arm has put on the model off again; an arm of CLARS can make no step after it."""
        if self.sample_norms is not None:
            self.sample_norms.remove()
