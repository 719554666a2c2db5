"""Optuna's samplers and distributions, made from a study's own terms."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, QMCSampler, RandomSampler, TPESampler

from search_spaces import Choice, Dimension, Float, Int, Value, applies
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


def suggest(trial: optuna.Trial, dimensions: Mapping[str, Dimension]) -> dict[str, Value]:
    """Ask for each dimension in turn; one whose condition does not hold is left out."""
    chosen: dict[str, Value] = {}
    for name, dimension in dimensions.items():
        if not applies(dimension, chosen):
            continue
        match dimension:
            case Float(low=low, high=high, log=log):
                chosen[name] = trial.suggest_float(name, low, high, log=log)
            case Int(low=low, high=high, log=log):
                chosen[name] = trial.suggest_int(name, low, high, log=log)
            case Choice(values=values):
                chosen[name] = trial.suggest_categorical(name, values)
    return chosen


def startup_trials(search: SearchSpec, trials: int) -> int:
    """Random trials before a model is asked: below Optuna's default of 10 where the budget is small, or it never would.

    Args:
        search: the study file's section.
        trials: of one search.
    """
    if search.startup_trials != "auto":
        return search.startup_trials
    return max(2, min(MOST_STARTUP_TRIALS, math.ceil(trials / 3)))


def make_sampler(search: SearchSpec, seed: int, trials: int, *, conditional: bool = False) -> BaseSampler:
    """One sampler for one search; it must live as long as the search, or it repeats its suggestions.

    Args:
        search: the study file's section.
        seed: of this search alone.
        trials: of one search.
        conditional: whether some dimensions depend on others: TPE then models each group of dimensions that occur
            together by itself; gp and cmaes model what every trial has and sample the rest at random.
    """
    startup = startup_trials(search, trials)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match search.method:
            case "tpe":
                return TPESampler(
                    seed=seed, multivariate=True, group=conditional, constant_liar=True, n_startup_trials=startup
                )
            case "qmc":
                return QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False)
            case "gp":
                return GPSampler(seed=seed, n_startup_trials=startup, warn_independent_sampling=False)
            case "cmaes":
                # Stopped trials speak with the value of their last rung: else a search that stops most learns nothing.
                return CmaEsSampler(
                    seed=seed,
                    n_startup_trials=startup,
                    warn_independent_sampling=False,
                    consider_pruned_trials=search.early_stopping.method != "none",
                )
            case _:  # random, and grid, whose points are all given
                return RandomSampler(seed=seed)
