"""Optuna's samplers and distributions, made from a study's own terms."""

from __future__ import annotations

import math
import warnings

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, QMCSampler, RandomSampler, TPESampler

from search_spaces import Choice, Dimension, Float, Int
from study.sections import SearchSpec

MOST_STARTUP_TRIALS = 10


def distribution(dimension: Dimension) -> BaseDistribution:
    """Optuna's distribution of the same kind and bounds."""
    match dimension:
        case Float(low=low, high=high, log=log):
            return FloatDistribution(low, high, log=log)
        case Int(low=low, high=high, log=log):
            return IntDistribution(low, high, log=log)
        case Choice(values=values):
            return CategoricalDistribution(values)


def startup_trials(search: SearchSpec) -> int:
    """Random trials before TPE models: below its default of 10 where the budget is small, or it never would."""
    if search.startup_trials != "auto":
        return search.startup_trials
    return max(2, min(MOST_STARTUP_TRIALS, math.ceil(search.trials / 3)))


def make_sampler(search: SearchSpec, seed: int) -> BaseSampler:
    """One sampler for one search; it must live as long as the search, or it repeats its suggestions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match search.method:
            case "tpe":
                startup = startup_trials(search)
                return TPESampler(seed=seed, multivariate=True, constant_liar=True, n_startup_trials=startup)
            case "random":
                return RandomSampler(seed=seed)
            case "qmc":
                return QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False)
            case method:
                raise ValueError(f"no sampler for the search method '{method}'")  # the study file's check is before
