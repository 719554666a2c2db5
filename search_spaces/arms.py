"""One search space an arm: its own knobs beside those that it shares with every arm of its family.

Ranges are part of the algorithm under test (a study's lock hashes them), so each says why it is what it is. Arms of one
family get the very same range for a shared knob; a family with another meaning of the learning rate has its own.
Ranges in epochs are fractions of the training length, so that a space fits a study of 20 epochs and one of 1,000.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from search_spaces.dimensions import Dimension, Float, Space, Value

_TVLARS = "Do et al., arXiv 2309.14053"
_LARS = "You et al., arXiv 1708.03888"
_HUO = "Huo et al., arXiv 2002.01576"
_LAMB = "You et al., arXiv 1904.00962"
_REALITY = "Nado et al., arXiv 2102.06356"

_WEIGHT_DECAY = Float(
    low=1e-5,
    high=1e-2,
    log=True,
    why="a factor of 20 to 50 around the published 5e-4, the same for every arm that decays through the gradient",
    source=_TVLARS,
)
_DECOUPLED_WEIGHT_DECAY = Float(
    low=1e-4,
    high=1.0,
    log=True,
    why="decay beside an adaptive direction acts per unit of lr; published values are 0.01 to 0.1",
    source=_LAMB,
)
_LAYER_WISE_LR = Float(
    low=0.5,
    high=100.0,
    log=True,
    why="published base_lr is 0.5 to 1.5 at trust coefficient 1e-3; few steps at full batch want 5 to 20 (digits)",
    source=_TVLARS,
)
_CLARS_LR = replace(
    _LAYER_WISE_LR,
    why="LARS's range, at ten times its trust coefficient: CLARS divides by the mean norm of per-sample gradients, 4 "
    "to 19 times the norm of their mean (digits, full batch); with LARS's coefficient it would want ten times the lr",
    source=f"{_HUO}; {_TVLARS}",
)
_LAMB_LR = Float(
    low=3e-4,
    high=0.1,
    log=True,
    why="LAMB's step is lr times the weight norm; published peaks are 1e-3 to 2e-2",
    source=_LAMB,
)
_SGD_LR = Float(
    low=3e-3,
    high=1.0,
    log=True,
    why="published base_lr is 0.1 at batch size 256; tuned Nesterov runs lie within a factor of 30 around it",
    source=_REALITY,
)
_ADAMW_LR = Float(
    low=1e-4,
    high=3e-2,
    log=True,
    why="common peaks are 1e-3; few steps at full batch want more",
    source=_REALITY,
)
_WARMUP = Float(
    low=0.01,
    high=0.3,
    of_length=True,
    why="published warm-ups are 5 to 20 of 90 to 100 epochs; 0.3 still leaves most of the run to the cosine",
    source=f"{_LARS}; {_TVLARS}",
)
_DELAY = Float(
    low=0.0,
    high=0.3,
    of_length=True,
    why="published delay is 10 of 100 epochs; the same upper end as the warm-up, so that rungs treat both alike",
    source=_TVLARS,
)
_DECAY = Float(
    low=0.015,
    high=1.5,
    log=True,
    of_length=True,
    why="from a step within one epoch to a rate that hardly falls; per epoch, so it means the same at any batch size",
    source=_TVLARS,
)

_WARMUP_KNOB: Mapping[str, Dimension] = {"warmup_epochs": _WARMUP}
_SIGMOID_KNOBS: Mapping[str, Dimension] = {"decay_epochs": _DECAY, "delay_epochs": _DELAY}
_SIGMOID_FIXED: Mapping[str, Value] = {"alpha": 1.0, "gamma_min": 1e-3}

_FAMILIES: Mapping[str, Space] = {
    "lars": Space(
        {"base_lr": _LAYER_WISE_LR, "weight_decay": _WEIGHT_DECAY},
        {"momentum": 0.9, "trust_coefficient": 1e-3, "nesterov": False},
    ),
    # The longer divisor is made up for in the trust coefficient and not in lr, which 1-D tensors share: with one_d_lr
    # raw, ten times the lr would break these alone (digits: accuracy 0.21 at base_lr 30, against 0.96 at 3 as here).
    # It fits the modes exact and subset; micro_batch divides by norms of means, and takes LARS's 1e-3.
    "clars": Space(
        {"base_lr": _CLARS_LR, "weight_decay": _WEIGHT_DECAY},
        {"momentum": 0.9, "trust_coefficient": 1e-2, "nesterov": False, "sample_norms": "exact"},
    ),
    "lamb": Space(
        {"base_lr": _LAMB_LR, "weight_decay": _DECOUPLED_WEIGHT_DECAY},
        {"beta1": 0.9, "beta2": 0.999, "eps": 1e-6, "bias_correction": True},
    ),
    "sgd": Space({"base_lr": _SGD_LR, "weight_decay": _WEIGHT_DECAY}, {"momentum": 0.9}),
    "adamw": Space(
        {"base_lr": _ADAMW_LR, "weight_decay": _DECOUPLED_WEIGHT_DECAY},
        {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8},
    ),
}


def _arm(family: str, knobs: Mapping[str, Dimension] | None = None, fixed: Mapping[str, Value] | None = None) -> Space:
    base = _FAMILIES[family]
    return Space({**base.dimensions, **(knobs or {})}, {**base.fixed, **(fixed or {})})


ARM_SPACES: Mapping[str, Space] = {
    "sgd": _arm("sgd"),
    "sgd_warmup": _arm("sgd", _WARMUP_KNOB),
    "sgd_sigmoid": _arm("sgd", _SIGMOID_KNOBS, _SIGMOID_FIXED),
    "adamw": _arm("adamw"),
    "adamw_warmup": _arm("adamw", _WARMUP_KNOB),
    "lars": _arm("lars"),
    "lars_warmup": _arm("lars", _WARMUP_KNOB),
    "lars_sigmoid": _arm("lars", _SIGMOID_KNOBS, _SIGMOID_FIXED),
    "clars": _arm("clars"),
    "clars_warmup": _arm("clars", _WARMUP_KNOB),
    "lamb": _arm("lamb"),
    "lamb_warmup": _arm("lamb", _WARMUP_KNOB),
    "lamb_sigmoid": _arm("lamb", _SIGMOID_KNOBS, _SIGMOID_FIXED),
    "tvlars": _arm("lars", _SIGMOID_KNOBS, _SIGMOID_FIXED),
}

# Knobs in epochs that hold a trial's score down while they last: no rung may lie before their longest value.
SLOW_START_KNOBS: tuple[str, ...] = ("warmup_epochs", "delay_epochs")
