import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from study.analysis.targets import Time, kaplan_meier_median, time_to_target
from study.analysis.traces import Trace
from study.records import CONFIRM, DIVERGED, FAILED, TrialRecord


def scipy_median(times: list[Time]) -> float | None:
    """Of the estimate that scipy computes; times that never end are censored after all others."""
    late = 1e9
    data = stats.CensoredData(
        uncensored=[time.value for time in times if time.reached],
        right=[min(time.value, late) for time in times if not time.reached],
    )
    survival = stats.ecdf(data).sf
    below = survival.quantiles[survival.probabilities <= 0.5 + 1e-12]
    return float(below[0]) if len(below) and below[0] < late else None


@pytest.mark.parametrize("seed", range(30))
def test_the_median_is_that_of_kaplan_and_meier(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 12))
    times = [
        Time(math.inf if not reached and rng.uniform() < 0.3 else float(rng.integers(1, 8)), bool(reached))
        for reached in rng.uniform(size=count) < rng.uniform(0.3, 1)
    ]
    if not any(time.reached for time in times):
        assert kaplan_meier_median(times) is None
        return
    assert kaplan_meier_median(times) == scipy_median(times)


def test_the_median_is_no_mean_over_those_that_made_it() -> None:
    made = [Time(2.0, True), Time(4.0, True)]
    assert kaplan_meier_median(made) == 2.0
    assert kaplan_meier_median([*made, Time(20.0, False)]) == 4.0
    assert kaplan_meier_median([*made, *[Time(20.0, False)] * 3]) is None
    assert kaplan_meier_median([]) is None


def trials(make_record) -> list[TrialRecord]:
    record = make_record(arms=("lars",), repeats=4)
    return [trial for trial in record.trials if trial.phase == CONFIRM]


def test_runs_are_reached_censored_or_diverged(make_record) -> None:
    made, late, lost, failed = trials(make_record)
    reached = {"target/reached": 1.0, "target/epochs": 7.0, "target/steps": 14.0, "target/seconds": 3.5}
    made = replace(made, metrics=reached)
    late = replace(late, metrics={"target/reached": 0.0, "steps": 40.0}, epochs=20)
    lost = replace(lost, state=DIVERGED, metrics={"target/reached": 0.0, "steps": 6.0}, epochs=3)
    failed = replace(failed, state=FAILED, metrics={"target/reached": 0.0})
    reports = ({"steps": 2.0, "images_per_second": 100.0}, {"steps": 4.0, "images_per_second": 50.0})
    found = time_to_target([made, late, lost, failed], {late.number: Trace(reports)}, 64)
    assert found is not None
    assert (found.runs, found.reached, found.diverged) == (3, 1, 1)
    assert found.times["epochs"] == (Time(7.0, True), Time(20.0, False), Time(math.inf, False))
    assert found.times["steps"] == (Time(14.0, True), Time(40.0, False), Time(math.inf, False))
    # 2 steps of 64 images at 100 images a second, then 2 at 50
    assert found.times["seconds"] == (Time(3.5, True), Time(1.28 + 2.56, False), Time(math.inf, False))
    assert found.median("epochs") is None
    assert found.longest("epochs") == 20.0


def test_a_run_that_made_it_and_diverged_later_made_it(make_record) -> None:
    first, *_ = trials(make_record)
    metrics = {"target/reached": 1.0, "target/epochs": 2.0, "target/steps": 2.0, "target/seconds": 1.0}
    found = time_to_target([replace(first, state=DIVERGED, metrics=metrics)], {}, 64)
    assert found is not None
    assert (found.reached, found.diverged, found.median("steps")) == (1, 0, 2.0)


def test_without_a_target_there_is_nothing(make_record) -> None:
    assert time_to_target(trials(make_record), {}, 64) is None
    assert time_to_target([], {}, 64) is None


def test_a_batch_size_of_the_runs_own_counts(make_record) -> None:
    first, *_ = trials(make_record)
    metrics = {"target/reached": 0.0, "steps": 4.0}
    trial = replace(first, metrics=metrics, params={"batch_size": 10})
    found = time_to_target([trial], {trial.number: Trace(({"steps": 4.0, "images_per_second": 20.0},))}, 64)
    assert found is not None
    assert found.times["seconds"] == (Time(2.0, False),)
    unknown = time_to_target([trial], {}, 64)
    assert unknown is not None
    assert unknown.times["seconds"] == (Time(math.inf, False),)
