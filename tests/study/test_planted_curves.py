"""Learning curves that cross, planted: early stopping per cell keeps the arm that wins late, a shared one does not.

Arm "fast" rises at once and levels off; arm "slow" (a warm-up, a long delay) starts low and ends higher. What a trial
reaches in the end depends on its point; how it gets there depends on its arm. Simulated studies are driven through the
scheduler that real ones use, by simulated Tune trials that run side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ray.tune.schedulers import TrialScheduler

from study.jobs import Job
from study.plan import Cell, make_plan
from study.records import SEARCH
from study.sections import EarlyStoppingSpec
from study.spec import Spec
from study.sweep.scheduler import EPOCH, EarlyStopping

EPOCHS, TRIALS, AT_ONCE = 100, 36, 4
METRIC = "val/accuracy"
# Final accuracy of an arm's best point, and the epoch by which half of the way is done.
CROSSING = {"lars": (0.90, 4.0), "sgd": (0.95, 30.0)}
PARALLEL = {"lars": (0.90, 8.0), "sgd": (0.95, 8.0)}
WINNER = "sgd"


@dataclass(frozen=True)
class Curve:
    """One trial's validation accuracy by epoch."""

    final: float
    half: float
    noise: np.ndarray  # (EPOCHS + 1,)

    def __call__(self, epoch: int) -> float:
        rise = 1 / (1 + math.exp(-4 * (epoch / self.half - 1))) - 1 / (1 + math.exp(4))
        top = 1 / (1 + math.exp(-4 * (EPOCHS / self.half - 1))) - 1 / (1 + math.exp(4))
        return 0.1 + (self.final - 0.1) * rise / top + float(self.noise[epoch])


def draw(arms: dict[str, tuple[float, float]], arm: str, rng: np.random.Generator) -> Curve:
    """A trial of an arm: most points are poor, few come near the arm's best."""
    best, half = arms[arm]
    final = best - 0.6 * float(rng.beta(1, 3))
    return Curve(final, half * float(rng.uniform(0.8, 1.2)), rng.normal(0, 0.004, EPOCHS + 1))


@dataclass
class Outcome:
    """What a simulated study found and spent."""

    winner: str
    epochs: int


def simulate(
    cells: list[Cell], arms: dict[str, tuple[float, float]], seed: int, *, shared: bool, method: str
) -> Outcome:
    """One study: trials of both arms in turn, `AT_ONCE` side by side, each asked at every epoch.

    With `shared` all trials stand on the rungs of one search: what early stopping over a whole study does.
    """
    rng = np.random.default_rng(seed)
    jobs = [Job(2 * i + k, cell, 0, SEARCH, i, {}, 0) for i in range(TRIALS) for k, cell in enumerate(cells)]
    curves = {job.key: draw(arms, job.cell.arm, rng) for job in jobs}
    judged = {job.key: Job(job.number, cells[0], 0, SEARCH, job.number, {}, 0) if shared else job for job in jobs}
    scheduler = EarlyStopping(
        judged.__getitem__,
        METRIC,
        EarlyStoppingSpec(method=method, reduction_factor=3),  # type: ignore[arg-type]
    )
    waiting, running, spent, finals = list(jobs), dict[str, int](), 0, dict[str, float]()
    arm_of = {job.key: job.cell.arm for job in jobs}
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            running[waiting.pop(0).key] = 0
        for key in list(running):
            running[key] += 1
            epoch, value = running[key], curves[key](running[key])
            trial = SimpleNamespace(config={"job": key})
            answer = scheduler.on_trial_result(None, trial, {EPOCH: epoch, METRIC: value})
            if epoch == EPOCHS:
                finals[key] = value
            if epoch == EPOCHS or answer == TrialScheduler.STOP:
                spent += epoch
                del running[key]
    best = max(finals, key=finals.__getitem__)
    return Outcome(arm_of[best], spent)


def share_kept(
    cells: list[Cell], arms: dict[str, tuple[float, float]], studies: int, **how: object
) -> tuple[float, float]:
    """Fraction of studies in which the arm that is truly better wins, and epochs spent of all."""
    found = [simulate(cells, arms, seed, **how) for seed in range(studies)]  # type: ignore[arg-type]
    kept = sum(outcome.winner == WINNER for outcome in found) / studies
    return kept, sum(outcome.epochs for outcome in found) / (studies * 2 * TRIALS * EPOCHS)


@pytest.fixture
def cells(make_spec: Callable[..., Spec]) -> Callable[[int], list[Cell]]:
    def make(first_rung: int) -> list[Cell]:
        stopping = {"method": "asha", "reduction_factor": 3, "first_rung": first_rung}
        search = {"trials": TRIALS, "repeats": 1, "method": "random", "early_stopping": stopping}
        spec = make_spec(train={"epochs": EPOCHS, "batch_size": 64}, search=search)
        return list(make_plan(spec).cells)

    return make


def check(cells: list[Cell], studies: int, capsys: pytest.CaptureFixture[str]) -> None:
    per_cell, spent = share_kept(cells, CROSSING, studies, shared=False, method="asha")
    shared, shared_spent = share_kept(cells, CROSSING, studies, shared=True, method="asha")
    first = cells[0].block.rungs[0]
    with capsys.disabled():
        print(
            f"\n{studies} studies, first rung at {first} of {EPOCHS}: per cell {per_cell:.1%} keep the winner "
            f"({spent:.2f} of all epochs), shared {shared:.1%} ({shared_spent:.2f})"
        )
    assert per_cell >= 0.95
    assert shared < 0.6
    if first <= EPOCHS / 10:
        assert spent <= 1 / 3
    control = [share_kept(cells, PARALLEL, studies, shared=how, method="asha")[0] for how in (False, True)]
    assert min(control) >= 0.95
    assert abs(control[0] - control[1]) <= 0.05  # where curves do not cross, sharing costs nothing


def test_the_arms_truly_cross() -> None:
    quiet = np.zeros(EPOCHS + 1)
    fast, slow = (Curve(*CROSSING[arm], quiet) for arm in ("lars", "sgd"))
    assert fast(10) > slow(10) + 0.3
    assert slow(EPOCHS) > fast(EPOCHS) + 0.04
    fast, slow = (Curve(*PARALLEL[arm], quiet) for arm in ("lars", "sgd"))
    assert all(slow(epoch) >= fast(epoch) for epoch in range(1, EPOCHS + 1))


def test_early_stopping_per_cell_keeps_the_slow_starter(
    cells: Callable[[int], list[Cell]], capsys: pytest.CaptureFixture[str]
) -> None:
    check(cells(10), 20, capsys)


@pytest.mark.proof
@pytest.mark.parametrize("first_rung", [5, 10, 20])
def test_two_hundred_studies(
    first_rung: int, cells: Callable[[int], list[Cell]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    check(cells(first_rung), 200, capsys)


def test_the_median_rule_keeps_the_slow_starter_too(cells: Callable[[int], list[Cell]]) -> None:
    kept, spent = share_kept(cells(10), CROSSING, 20, shared=False, method="median")
    assert kept >= 0.95
    assert spent < 0.8
