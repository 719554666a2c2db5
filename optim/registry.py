"""Which optimizers and arms there are, and how an arm is built from the study's names of its hyperparameters.

An arm is an optimizer with a schedule. Every arm splits the parameters in the same way, so that arms differ
in nothing else.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn
from torch.nn import Parameter

from optim.arm import Arm, Hyperparameters, PhiKnobs, schedule_factor
from optim.base import plain_number
from optim.clars import CLARS
from optim.lamb import LAMB
from optim.lars import LARS
from optim.sample_norms import PerSampleNorms
from optim.trust import is_adapted
from optim.tvlars import TVLARS

ONE_D_LR_CAP = 1.0


@dataclass(frozen=True)
class OptimizerInfo:
    """An optimizer as the study knows it."""

    name: str
    factory: Callable[..., torch.optim.Optimizer]
    knobs: frozenset[str]  # hyperparameters it takes, in the study's names
    layer_wise: bool  # whether it scales each layer's step by norms


@dataclass(frozen=True)
class ArmInfo:
    """An arm: an optimizer and the schedule on its learning rate."""

    name: str
    optimizer: str
    schedule: str  # "cosine", "warmup_cosine", "sigmoid" or "constant"


SIGMOID_KNOBS = frozenset({"decay_epochs", "delay_epochs", "alpha", "gamma_min"})
SCHEDULE_KNOBS: Mapping[str, frozenset[str]] = {
    "constant": frozenset(),
    "cosine": frozenset(),
    "warmup_cosine": frozenset({"warmup_epochs", "warmup_start"}),
    "sigmoid": SIGMOID_KNOBS,
}
REQUIRED_KNOBS = frozenset({"decay_epochs", "delay_epochs", "warmup_epochs"})
_MOMENTUM_KNOBS = frozenset({"weight_decay", "momentum", "nesterov"})
_LARS_KNOBS = _MOMENTUM_KNOBS | {"trust_coefficient"}
_SAMPLE_NORM_KNOBS = frozenset({"sample_norms", "norm_samples"})
_ADAM_KNOBS = frozenset({"weight_decay", "beta1", "beta2", "eps"})

OPTIMIZERS: Mapping[str, OptimizerInfo] = {
    info.name: info
    for info in (
        OptimizerInfo("sgd", torch.optim.SGD, _MOMENTUM_KNOBS, layer_wise=False),
        OptimizerInfo("adamw", torch.optim.AdamW, _ADAM_KNOBS, layer_wise=False),
        OptimizerInfo("lars", LARS, _LARS_KNOBS, layer_wise=True),
        OptimizerInfo("lamb", LAMB, _ADAM_KNOBS | {"bias_correction"}, layer_wise=True),
        OptimizerInfo("clars", CLARS, _LARS_KNOBS | _SAMPLE_NORM_KNOBS, layer_wise=True),
        OptimizerInfo("tvlars", TVLARS, _LARS_KNOBS | SIGMOID_KNOBS, layer_wise=True),
    )
}

ARMS: Mapping[str, ArmInfo] = {
    info.name: info
    for info in (
        ArmInfo("sgd", "sgd", "cosine"),
        ArmInfo("sgd_warmup", "sgd", "warmup_cosine"),
        ArmInfo("adamw", "adamw", "cosine"),
        ArmInfo("adamw_warmup", "adamw", "warmup_cosine"),
        ArmInfo("lars", "lars", "cosine"),
        ArmInfo("lars_warmup", "lars", "warmup_cosine"),
        ArmInfo("clars", "clars", "cosine"),
        ArmInfo("clars_warmup", "clars", "warmup_cosine"),
        ArmInfo("lamb", "lamb", "cosine"),
        ArmInfo("lamb_warmup", "lamb", "warmup_cosine"),
        ArmInfo("tvlars", "tvlars", "constant"),
        ArmInfo("lars_sigmoid", "lars", "sigmoid"),
        ArmInfo("sgd_sigmoid", "sgd", "sigmoid"),
        ArmInfo("lamb_sigmoid", "lamb", "sigmoid"),
    )
}


def build_arm(
    name: str,
    named_parameters: Iterable[tuple[str, Parameter]],
    *,
    lr: float,
    steps_per_epoch: int,
    total_steps: int,
    one_d_lr: str | float = "capped",
    batch_size_ratio: float = 1.0,
    model: nn.Module | None = None,
    seed: int = 0,
    hyperparameters: Hyperparameters,
) -> Arm:
    """Build an arm for a model.

    Args:
        name: a key of `ARMS`.
        named_parameters: as `torch.nn.Module.named_parameters()` gives them.
        lr: target learning rate, after batch-size scaling.
        steps_per_epoch: optimizer steps in an epoch, which turn the knobs in epochs into steps.
        total_steps: optimizer steps of the whole training.
        one_d_lr: learning rate of tensors with `ndim <= 1`: "raw" (lr), "capped" (at most 1) or a factor of
            lr. It sets their peak; the schedule acts on both groups.
        batch_size_ratio: batch size over base batch size, for `gamma_min="paper_literal"`, which is 0.001
            times it.
        model: the one with these parameters, on its device. Arms of CLARS need it: per-sample norms are recorded in
            every backward pass in training mode, until `Arm.close`.
        seed: of the samples that CLARS draws with `sample_norms="subset"`.
        hyperparameters: by the study's names; `decay_epochs`, `delay_epochs`, `warmup_epochs` are needed
            where the arm takes them, all others have defaults. `sample_norms` is the mode of
            `PerSampleNorms`, "exact" by default, and `norm_samples` its `subset_size`, which only "subset" reads.

    Raises:
        ValueError: an unknown name or an illegal value, with what is allowed; no model where one is needed, or one
            with a layer whose per-sample norms are not known.

    Example:
        >>> model = torch.nn.Linear(4, 2)
        >>> knobs = {"weight_decay": 5e-4, "warmup_epochs": 2.0}
        >>> arm = build_arm(
        ...     "lars_warmup",
        ...     model.named_parameters(),
        ...     lr=4.0,
        ...     steps_per_epoch=5,
        ...     total_steps=50,
        ...     hyperparameters=knobs,
        ... )
        >>> arm.prepare_step(4)
        >>> [group["lr"] for group in arm.optimizer.param_groups]  # half-way up; biases peak at 1
        [2.0, 0.5]
    """
    if name not in ARMS:
        raise ValueError(f"no arm is called {name!r}; there are {', '.join(sorted(ARMS))}")
    if not (steps_per_epoch >= 1 and total_steps >= 1):
        raise ValueError(
            "1 <= steps_per_epoch and 1 <= total_steps must hold, but got "
            f"(steps_per_epoch={steps_per_epoch}, total_steps={total_steps})"
        )
    # numpy's would end in the state of torch's own optimizers, which could then not be loaded with weights_only
    hyperparameters = {knob: plain_number(value) for knob, value in hyperparameters.items()}
    lr, steps_per_epoch, total_steps = (plain_number(number) for number in (lr, steps_per_epoch, total_steps))
    info = ARMS[name]
    optimizer_info = OPTIMIZERS[info.optimizer]
    _check_names(name, optimizer_info.knobs | SCHEDULE_KNOBS[info.schedule], hyperparameters)

    phi = None
    if SIGMOID_KNOBS.issubset(optimizer_info.knobs | SCHEDULE_KNOBS[info.schedule]):
        phi = PhiKnobs.from_epochs(hyperparameters, steps_per_epoch, batch_size_ratio)
    factor = schedule_factor(info.schedule, hyperparameters, phi, steps_per_epoch, total_steps)
    weight_decay = cast(float, hyperparameters.get("weight_decay", 0.0))
    groups = parameter_groups(named_parameters, lr=lr, one_d_lr=one_d_lr, weight_decay=weight_decay)
    arguments = _arguments(info.optimizer, hyperparameters, phi)
    norms = None
    if "sample_norms" in optimizer_info.knobs:
        norms = arguments["sample_norms"] = _sample_norms(name, model, hyperparameters, seed)
    try:
        optimizer = optimizer_info.factory(groups, lr=lr, **arguments)
    except BaseException:
        if norms is not None:
            norms.remove()
        raise
    return Arm(optimizer, lr, factor, phi, phi_in_optimizer=info.optimizer == "tvlars", sample_norms=norms)


def _check_names(arm: str, allowed: frozenset[str], hyperparameters: Hyperparameters) -> None:
    unknown = sorted(set(hyperparameters) - allowed)
    if unknown:
        raise ValueError(f"{arm} takes no {', '.join(unknown)}; it takes {', '.join(sorted(allowed))}")
    missing = sorted((REQUIRED_KNOBS & allowed) - set(hyperparameters))
    if missing:
        raise ValueError(f"{arm} needs {', '.join(missing)}, which has no default")


def parameter_groups(
    named_parameters: Iterable[tuple[str, Parameter]],
    *,
    lr: float,
    one_d_lr: str | float = "capped",
    weight_decay: float = 0.0,
) -> list[dict[str, object]]:
    """The two groups of every arm: tensors with `ndim > 1`, and the rest, which takes no weight decay.

    Args:
        named_parameters: as `torch.nn.Module.named_parameters()` gives them.
        lr: peak learning rate of the first group.
        one_d_lr: that of the second: "raw" (lr), "capped" (at most 1) or a factor of lr.
        weight_decay: of the first group.

    Returns:
        For a torch optimizer; each with its peak as `initial_lr`. A group without parameters is left out.

    Raises:
        ValueError: `one_d_lr` is neither "raw", "capped" nor a positive factor.

    Example:
        >>> groups = parameter_groups(torch.nn.Linear(4, 2).named_parameters(), lr=3.0, weight_decay=5e-4)
        >>> [(group["lr"], group["weight_decay"]) for group in groups]
        [(3.0, 0.0005), (1.0, 0.0)]
    """
    lr, one_d_lr, weight_decay = plain_number(lr), plain_number(one_d_lr), plain_number(weight_decay)
    params = [param for _, param in named_parameters]
    adapted = {
        "params": [param for param in params if is_adapted(param)],
        "lr": lr,
        "weight_decay": weight_decay,
    }
    rest = {
        "params": [param for param in params if not is_adapted(param)],
        "lr": one_d_peak(lr, one_d_lr),
        "weight_decay": 0.0,
    }
    groups: list[dict[str, object]] = [group for group in (adapted, rest) if group["params"]]
    for group in groups:
        group["initial_lr"] = group["lr"]
    return groups


def one_d_peak(lr: float, one_d_lr: str | float) -> float:
    """The target learning rate of tensors with `ndim <= 1`.

    Raises:
        ValueError: `one_d_lr` is neither "raw", "capped" nor a positive factor.
    """
    if one_d_lr == "raw":
        return lr
    if one_d_lr == "capped":
        return min(lr, ONE_D_LR_CAP)
    if isinstance(one_d_lr, bool) or not isinstance(one_d_lr, int | float) or not 0 < one_d_lr < float("inf"):
        raise ValueError(f"one_d_lr must be raw, capped or a factor above 0, but got {one_d_lr!r}")
    return lr * one_d_lr


def _sample_norms(arm: str, model: nn.Module | None, hyperparameters: Hyperparameters, seed: int) -> PerSampleNorms:
    """Starts to record."""
    if model is None:
        raise ValueError(
            f"{arm} divides by norms of per-sample gradients, which are recorded while the model runs: it needs the "
            "model, but got (model=None)"
        )
    mode, size = hyperparameters.get("sample_norms", "exact"), hyperparameters.get("norm_samples", 16)
    return PerSampleNorms(model, mode, subset_size=size, seed=seed)  # type: ignore[arg-type]  # checked there


def _arguments(optimizer: str, hyperparameters: Hyperparameters, phi: PhiKnobs | None) -> dict[str, object]:
    """The optimizer's own keyword arguments, from the study's names."""
    own = ("momentum", "nesterov", "trust_coefficient", "eps", "bias_correction")
    arguments: dict[str, object] = {name: hyperparameters[name] for name in own if name in hyperparameters}
    if optimizer == "sgd":
        arguments = {"momentum": 0.9, "nesterov": True, **arguments}
    if optimizer in ("adamw", "lamb"):
        arguments["betas"] = (hyperparameters.get("beta1", 0.9), hyperparameters.get("beta2", 0.999))
    if optimizer == "tvlars" and phi is not None:
        arguments |= {
            "lambda_": phi.lambda_,
            "delay_steps": phi.delay_steps,
            "alpha": phi.alpha,
            "gamma_min": phi.gamma_min,
        }
    return arguments
