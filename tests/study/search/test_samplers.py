"""Samplers and distributions: of the right kind, seeded, and modelling within a small budget."""

from __future__ import annotations

import math

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import CmaEsSampler, GPSampler, QMCSampler, RandomSampler, TPESampler

from search_spaces import Choice, Dimension, Float, Int, Value
from study.search.samplers import distribution, make_sampler, startup_trials, suggest
from study.sections import SearchSpec

DIMENSIONS: dict[str, Dimension] = {
    "lr": Float(low=1e-4, high=1e4, log=True),
    "decay": Float(low=0.0, high=1.0),
}
TARGET = 30.0


@pytest.mark.parametrize(
    ("dimension", "expected"),
    [
        (Float(low=0.5, high=2), FloatDistribution(0.5, 2.0)),
        (Float(low=0.5, high=2, log=True), FloatDistribution(0.5, 2.0, log=True)),
        (Int(low=1, high=8), IntDistribution(1, 8)),
        (Int(low=1, high=8, log=True), IntDistribution(1, 8, log=True)),
        (Choice(values=("a", 1, True)), CategoricalDistribution(("a", 1, True))),
        (Float(low=2, high=2), FloatDistribution(2.0, 2.0)),
    ],
)
def test_distributions(dimension: Dimension, expected: BaseDistribution) -> None:
    assert distribution(dimension) == expected


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("tpe", TPESampler),
        ("random", RandomSampler),
        ("qmc", QMCSampler),
        ("gp", GPSampler),
        ("cmaes", CmaEsSampler),
        ("grid", RandomSampler),  # never asked: all its points are given
    ],
)
def test_methods(method: str, kind: type, recwarn: pytest.WarningsRecorder) -> None:
    assert type(make_sampler(SearchSpec(method=method), 0, 6)) is kind  # type: ignore[arg-type]
    assert not recwarn.list


@pytest.mark.parametrize(("trials", "startup"), [(1, 2), (6, 2), (7, 3), (12, 4), (30, 10), (31, 10), (1000, 10)])
def test_startup_leaves_trials_to_the_model(trials: int, startup: int) -> None:
    assert startup_trials(SearchSpec(), trials) == startup
    assert startup_trials(SearchSpec(startup_trials=5), trials) == 5


def _search(method: str, seed: int, trials: int) -> list[float]:
    """Suggestions in turn; the score falls with the distance to the target on the log scale."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize", sampler=make_sampler(SearchSpec(method=method), seed, trials))
    for _ in range(trials):
        trial = study.ask()
        suggest(trial, DIMENSIONS)
        study.tell(trial, -_distance(trial.params["lr"]) - abs(trial.params["decay"] - 0.3))
    return [trial.params["lr"] for trial in study.trials]


def _distance(lr: float) -> float:
    return abs(math.log10(lr) - math.log10(TARGET))


@pytest.mark.parametrize("method", ["tpe", "random", "qmc", "gp", "cmaes"])
def test_seeds(method: str) -> None:
    assert _search(method, 1, 4) == _search(method, 1, 4)
    assert _search(method, 1, 4) != _search(method, 2, 4)


@pytest.mark.parametrize("method", ["gp", "cmaes"])
def test_models_come_closer_to_the_target_than_chance_does(method: str) -> None:
    close = {
        name: sum(_distance(lr) for seed in range(2) for lr in _search(name, seed, 24)[16:])
        for name in (method, "random")
    }
    assert close[method] < 0.6 * close["random"]


@pytest.mark.parametrize("method", ["tpe", "random", "qmc", "gp", "cmaes"])
def test_a_conditional_dimension_is_asked_for_where_its_condition_holds(method: str) -> None:
    dimensions: dict[str, Dimension] = {
        "mode": Choice(values=("exact", "subset")),
        "samples": Int(low=4, high=64, when=(("mode", ("subset",)),)),
        "lr": Float(low=0.1, high=10, log=True),
    }
    study = optuna.create_study(
        direction="maximize", sampler=make_sampler(SearchSpec(method=method), 3, 20, conditional=True)
    )
    seen = []
    for _ in range(20):
        trial = study.ask()
        params: dict[str, Value] = suggest(trial, dimensions)
        assert params == trial.params
        assert ("samples" in params) == (params["mode"] == "subset")
        seen.append(params["mode"])
        study.tell(trial, float(params.get("samples", 0)) / 64)
    assert {"exact", "subset"} == set(seen)
    if method == "tpe":  # it has learnt that the subset scores, and that more samples score more
        assert seen[10:].count("subset") > 5


def test_tpe_is_random_at_first_and_models_then() -> None:
    trials = 30
    tpe, random = _search("tpe", 0, trials), _search("random", 0, trials)
    assert tpe[:10] == random[:10]
    assert all(one != other for one, other in zip(tpe[10:], random[10:], strict=True))
    # Averaged over seeds a model that learns comes far closer to the target than chance does.
    closeness = {
        method: sum(_distance(lr) for seed in range(8) for lr in _search(method, seed, trials)[20:])
        for method in ("tpe", "random")
    }
    assert closeness["tpe"] < 0.75 * closeness["random"]


def test_tpe_does_not_repeat_a_point_that_is_under_way() -> None:
    study = optuna.create_study(sampler=make_sampler(SearchSpec(startup_trials=2), 0, 12))
    asked = [suggest(study.ask(), DIMENSIONS)["lr"] for _ in range(12)]
    assert len(set(asked)) == 12
