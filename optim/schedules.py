"""Learning-rate schedules as pure functions of the step: factors on the target learning rate.

They hold no state, so a resumed run, a `torch.optim.lr_scheduler.LambdaLR` and a plot all see the same
values.
"""

import math
from typing import Literal

WARMUP_STARTS = ("one", "zero")
BATCH_SCALINGS = ("linear", "sqrt", "none")


def _check_step(step: int) -> None:
    if not step >= 0:
        raise ValueError(f"0 <= step must hold, but got (step={step})")


def _check_times(step: int, warmup_steps: int, total_steps: int) -> None:
    _check_step(step)
    if not total_steps >= 1 or not 0 <= warmup_steps <= total_steps:
        raise ValueError(
            "0 <= warmup_steps <= total_steps and 1 <= total_steps must hold, but got "
            f"(warmup_steps={warmup_steps}, total_steps={total_steps})"
        )


def _check_floor(floor: float) -> None:
    if not 0 <= floor <= 1:
        raise ValueError(f"0 <= floor <= 1 must hold, but got (floor={floor})")


def warmup_cosine(
    step: int,
    warmup_steps: int,
    total_steps: int,
    floor: float = 1e-3,
    start: Literal["one", "zero"] = "one",
) -> float:
    r"""Gradual warm-up, then a cosine from 1 to `floor`.

    With W warm-up steps of T in total (warm-up: Goyal et al., arXiv 1706.02677; the pair as in Do et al.,
    arXiv 2309.14053):

        (t + 1) / W                                     for t < W      (start="zero": t / W)
        c + floor * (1 - c),  c = (1 + cos(pi * (t - W) / (T - W))) / 2      after it; `floor` from t = T on

    Args:
        step: t = 0, 1, 2, ...
        warmup_steps: W, `0 <= W <= T`; 0 for the cosine alone.
        total_steps: T, at least 1.
        floor: the factor at the end, `0 <= floor <= 1`.
        start: whether the first step is made at 1/W or, as published, at zero.

    Returns:
        The factor on lr, between 0 and 1.

    Raises:
        ValueError: an argument breaks its rule.

    Example:
        >>> [round(warmup_cosine(t, warmup_steps=4, total_steps=12), 4) for t in (0, 3, 4, 8, 12)]
        [0.25, 1.0, 1.0, 0.5005, 0.001]
    """
    _check_times(step, warmup_steps, total_steps)
    _check_floor(floor)
    if start not in WARMUP_STARTS:
        raise ValueError(f"start must be one of {', '.join(WARMUP_STARTS)}, but got {start!r}")
    if step < warmup_steps:
        return float((step + 1 if start == "one" else step) / warmup_steps)
    if step >= total_steps:
        return float(floor)
    cosine = (1 + math.cos(math.pi * ((step - warmup_steps) / (total_steps - warmup_steps)))) / 2
    return cosine + float(floor) * (1 - cosine)


def polynomial_decay(
    step: int, total_steps: int, power: float = 2.0, floor: float = 0.0, warmup_steps: int = 0
) -> float:
    """Warm-up in equal steps, then a polynomial from 1 to `floor`: the schedule of the LARS paper.

        (t + 1) / W                                                 for t < W
        floor + (1 - floor) * (1 - (t - W) / (T - W))^power         after it; `floor` from t = T on

    You et al., arXiv 1708.03888, use power 2.

    Args:
        step: t = 0, 1, 2, ...
        total_steps: T, at least 1.
        power: finite, above 0; 1 is a straight line.
        floor: the factor at the end, `0 <= floor <= 1`.
        warmup_steps: W, `0 <= W <= T`.

    Returns:
        The factor on lr, between 0 and 1.

    Raises:
        ValueError: an argument breaks its rule.

    Example:
        >>> [polynomial_decay(t, total_steps=4) for t in range(5)]
        [1.0, 0.5625, 0.25, 0.0625, 0.0]
    """
    _check_times(step, warmup_steps, total_steps)
    _check_floor(floor)
    if not 0 < power < math.inf:
        raise ValueError(f"0 < power < inf must hold, but got (power={power})")
    if step < warmup_steps:
        return float((step + 1) / warmup_steps)
    if step >= total_steps:
        return float(floor)
    left = 1 - (step - warmup_steps) / (total_steps - warmup_steps)
    return float(floor) + (1 - float(floor)) * float(left) ** float(power)


def constant(step: int) -> float:
    """1 at every step t = 0, 1, 2, ...

    Raises:
        ValueError: the step is negative.

    Example:
        >>> constant(7)
        1.0
    """
    _check_step(step)
    return 1.0


def batch_scale(batch_size: int, rule: Literal["linear", "sqrt", "none"], base_batch_size: int = 256) -> float:
    """The factor from `base_lr` to lr for a batch size: `B / base`, its square root, or 1.

    Linear: Goyal et al., arXiv 1706.02677. Square root: Krizhevsky, arXiv 1404.5997.

    Args:
        batch_size: B, the global one, at least 1.
        rule: "linear", "sqrt" or "none".
        base_batch_size: the batch size at which lr is `base_lr`, at least 1.

    Raises:
        ValueError: an argument breaks its rule.

    Example:
        >>> [batch_scale(4096, rule) for rule in ("linear", "sqrt", "none")]
        [16.0, 4.0, 1.0]
    """
    if not (1 <= batch_size < math.inf and 1 <= base_batch_size < math.inf):
        raise ValueError(
            "1 <= batch_size and 1 <= base_batch_size must hold, but got "
            f"(batch_size={batch_size}, base_batch_size={base_batch_size})"
        )
    if rule not in BATCH_SCALINGS:
        raise ValueError(f"rule must be one of {', '.join(BATCH_SCALINGS)}, but got {rule!r}")
    ratio = float(batch_size / base_batch_size)
    return {"linear": ratio, "sqrt": math.sqrt(ratio), "none": 1.0}[rule]


def sigmoid_decay(step: int, lambda_: float, delay_steps: float, alpha: float = 1.0, gamma_min: float = 1e-3) -> float:
    r"""The phi of TVLARS: a step that falls along a sigmoid instead of warming up.

        phi_t = 1 / (alpha + exp(lambda * (t - delay_steps))) + gamma_min

    Do et al., arXiv 2309.14053; `gamma_min` is a fraction of the target here. It falls from
    `1 / (alpha + exp(-lambda * delay_steps)) + gamma_min` to `gamma_min`, which it reaches where lambda * (t
    - delay_steps) is about 7; with a small lambda it is a constant near `1 / (alpha + 1)`.

    Args:
        step: t = 0, 1, 2, ..., of any size.
        lambda_: steepness per step, finite, `0 <= lambda_`.
        delay_steps: where phi has fallen to `1 / (alpha + 1) + gamma_min`, finite, `0 <= delay_steps`.
        alpha: finite, `0 < alpha`.
        gamma_min: finite, `0 <= gamma_min`.

    Returns:
        phi_t, between `gamma_min` and `1 / alpha + gamma_min`.

    Raises:
        ValueError: an argument breaks its rule.

    Example:
        >>> [round(sigmoid_decay(t, 0.1, delay_steps=50, gamma_min=0.0), 4) for t in (0, 50, 100, 10**400)]
        [0.9933, 0.5, 0.0067, 0.0]
    """
    _check_step(step)
    for name, value in (("lambda_", lambda_), ("delay_steps", delay_steps), ("gamma_min", gamma_min)):
        if not 0 <= value < math.inf:
            raise ValueError(f"0 <= {name} < inf must hold, but got ({name}={value})")
    if not 0 < alpha < math.inf:
        raise ValueError(f"0 < alpha < inf must hold, but got (alpha={alpha})")
    # an integer beyond the range of floats is cut to it: phi is at its floor by then, or never moves
    exponent = float(lambda_) * (float(min(step, 1e300)) - float(delay_steps))
    alpha, gamma_min = float(alpha), float(gamma_min)
    if exponent <= 0:
        return 1 / (alpha + math.exp(exponent)) + gamma_min
    # the same, multiplied out by exp(-exponent), which cannot overflow
    shrunk = math.exp(-exponent)
    return shrunk / (alpha * shrunk + 1) + gamma_min
