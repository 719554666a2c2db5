"""Small studies, and a made-up record: a real plan with synthetic trials of every state, the same at each call."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from search_spaces import Choice, Float
from study.home import StudyHome
from study.jobs import Job
from study.plan import Cell, Plan, make_plan
from study.records import COMPLETE, CONFIRM, DIVERGED, FAILED, PRUNED, RUNNING, SEARCH, Ending, StudyRecord, TrialRecord
from study.search.ledger import Ledger
from study.spec import Spec
from study.work import WorkQueue

ARMS = ("lars", "lars_warmup", "tvlars", "lamb_warmup", "sgd_warmup")
QUALITY = {"lars": 0.87, "lars_warmup": 0.968, "tvlars": 0.955, "lamb_warmup": 0.975, "sgd_warmup": 0.93}
RecordFactory = Callable[..., StudyRecord]


@pytest.fixture(scope="session")
def make_spec() -> Callable[..., Spec]:
    """A small study of two arms; each keyword replaces a key of the study file."""

    def make(**changes: object) -> Spec:
        data: dict[str, object] = {
            "name": "tiny",
            "question": "which?",
            "train": {"epochs": 10, "batch_size": 64},
            "arms": ["lars", "sgd"],
            "search": {"trials": 3, "repeats": 2, "method": "random"},
        }
        return Spec.model_validate({**data, **changes})

    return make


@pytest.fixture(scope="session")
def make_ending() -> Callable[..., Ending]:
    """How a job ended; by default complete, after ten epochs."""

    def make(state: str = COMPLETE, value: float | None = 0.5, **changes: object) -> Ending:
        reason = {DIVERGED: "the loss was nan at step 3", FAILED: "RuntimeError: out of memory"}.get(state)
        metrics = {} if value is None else {"val/accuracy": value, "epoch": 10.0}
        ending = Ending(state, None if state == FAILED else value, 10, metrics, reason, 2.0)
        return replace(ending, **changes)  # type: ignore[arg-type]

    return make


@pytest.fixture
def begin_home(
    tmp_path: Path, make_spec: Callable[..., Spec], make_ending: Callable[..., Ending]
) -> Callable[..., StudyHome]:
    """A study as a driver leaves it that was killed: `states` end the first jobs, a number of others are running.

    `states=None` runs it to its end. Keywords replace keys of the study file.
    """

    def begin(states: Sequence[str] | None = None, running: int = 0, **changes: object) -> StudyHome:
        spec = make_spec(**changes)
        plan = make_plan(spec)
        place = StudyHome(tmp_path / "studies", spec.name)
        place.create()
        facts = {"spec": spec.to_dict(), "spec_hash": plan.spec_hash, "id": "0", "sessions": []}
        place.write_facts({**facts, "versions": {"torch": "2.11.0"}, "started_at": "2025-03-04T05:06:07+00:00"})
        ledger = Ledger(place.ledger, plan, spec.search)
        queue = WorkQueue(plan, ledger)
        for number in range(plan.trials * 2 if states is None else len(states) + running):
            job = queue.next_job()
            if job is None:
                break
            state = COMPLETE if states is None else [*states, *[RUNNING] * running][number]
            value = 0.5 + number / 100
            curve = {epoch: value * epoch / 10 for epoch in range(1, 4 if state in (RUNNING, FAILED) else 11)}
            ledger.report(job, curve)
            folder = place.trial(job.folder)
            folder.mkdir()
            lines = [json.dumps({"epoch": e, "val/accuracy": v, "train/loss": 1 / e}) for e, v in curve.items()]
            (folder / "reports.jsonl").write_text("\n".join(lines) + "\n")
            if state == FAILED:
                (folder / "error.txt").write_text("2025-03-04 05:06:07 failed\nRuntimeError: out of memory\n")
            if state != RUNNING:
                ledger.end(job, make_ending(state, value))
        return place

    return begin


@pytest.fixture(scope="session")
def make_record() -> RecordFactory:
    """`make_record(arms=..., repeats=..., trials=..., ...)`; spec keys of the study file can be given as `spec`."""
    return _make_record


def _make_record(
    arms: tuple[str, ...] = ARMS,
    repeats: int = 3,
    trials: int = 6,
    confirm_seeds: int = 1,
    batch_size: object = "full",
    question: str = "Does TVLARS do without the warm-up that LARS is said to need?",
    spec: dict[str, object] | None = None,
    finished: bool = True,
    empty: bool = False,
    all_diverged: bool = False,
) -> StudyRecord:
    data: dict[str, object] = {
        "name": "digits-warmup",
        "question": question,
        "train": {"epochs": 20, "batch_size": batch_size},
        "arms": list(arms),
        "search": {"trials": trials, "repeats": repeats, "early_stopping": {"method": "asha"}},
        "confirm": {"seeds": confirm_seeds},
        "claims": [
            {
                "id": "C1",
                "kind": "noninferior",
                "arm": "tvlars",
                "than": "lars_warmup",
                "margin": 0.02,
                "why": "two points are what the paper claims",
            }
        ]
        if {"tvlars", "lars_warmup"} <= set(arms)
        else [],
        **(spec or {}),
    }
    validated = Spec.model_validate(data)
    plan = make_plan(validated)
    return StudyRecord(
        name=plan.name,
        question=plan.question,
        spec=validated.to_dict(),
        plan=plan,
        trials=() if empty else _trials(plan, all_diverged),
        finished=finished,
        wall_seconds=171.4,
        cpu_seconds=312.9,
        peak_memory_bytes=2_345_678_901,
        versions={"torch": "2.11.0", "ray": "2.60.0", "optuna": "5.0.0", "python": "3.12.3"},
        started_at="2025-03-04T05:06:07+00:00",
    )


def _trials(plan: Plan, all_diverged: bool) -> tuple[TrialRecord, ...]:
    made: list[TrialRecord] = []
    for repeat in range(plan.repeats):
        for order, cell in enumerate(plan.cells):
            rng = np.random.default_rng([repeat, order])
            found = []
            for index in range(cell.trials):
                state = _state(order, repeat, index, plan.grid)
                if all_diverged:
                    state = DIVERGED
                found.append(_trial(len(made), cell, repeat, index, SEARCH, state, rng))
                made.append(found[-1])
            complete = [trial for trial in found if trial.state == COMPLETE]
            best = max(complete or found, key=lambda trial: trial.value or 0.0)
            for index in range(plan.confirm_seeds):
                state = DIVERGED if all_diverged else COMPLETE
                confirm = _trial(len(made), cell, repeat, index, CONFIRM, state, rng)
                made.append(replace(confirm, params=best.params))
    return tuple(made)


def _state(order: int, repeat: int, index: int, grid: bool) -> str:
    if order == 0 and index == 1:
        return DIVERGED
    if order == 2 and repeat == 1 and index == 3:
        return FAILED
    return PRUNED if index >= 4 and not grid else COMPLETE


def _trial(
    number: int, cell: Cell, repeat: int, index: int, phase: str, state: str, rng: np.random.Generator
) -> TrialRecord:
    block = cell.block
    epochs = {PRUNED: block.rungs[0] if block.rungs else 5, DIVERGED: 4, FAILED: 2}.get(state, block.epochs)
    epochs = min(epochs, block.epochs)
    params: dict[str, bool | int | float | str] = {}
    for knob, dimension in cell.dimensions.items():
        u = float(rng.uniform())
        if isinstance(dimension, Choice):
            params[knob] = dimension.values[int(u * len(dimension.values))]
        elif dimension.log:
            params[knob] = math.exp(math.log(dimension.low) + u * math.log(dimension.high / dimension.low))
        else:
            params[knob] = dimension.low + u * (dimension.high - dimension.low)
            if not isinstance(dimension, Float):
                params[knob] = round(params[knob])
    if index < len(cell.points) and phase == SEARCH:
        params |= cell.points[index]
    # The middle of the learning rate's range is best, so the parameter view has a shape.
    rate = cell.dimensions.get("base_lr")
    position = (rate.position(params["base_lr"]) if rate else None) or 0.5
    quality = QUALITY.get(cell.arm, 0.9) - (0.5 * (position - 0.5) ** 2 if phase == SEARCH else 0.0)
    quality = min(quality + float(rng.normal(0, 0.006)), 1.0) * (0.6 if state == PRUNED else 1.0)
    curve = {
        epoch: min(max(0.1 + (quality - 0.1) * (1 - math.exp(-epoch / 4)) + float(rng.normal(0, 0.01)), 0.0), 1.0)
        for epoch in range(1, epochs + 1)
    }
    metrics = {"val/accuracy": curve[epochs], "train/loss": 0.1, "epoch": float(epochs)}
    reason = None
    if state == DIVERGED:
        curve[epochs] = 1 / block.classes
        metrics |= {"val/accuracy": 0.1, "diverged": 1.0}
        reason = f"the training loss was nan at step {epochs}"
    elif state == FAILED:
        reason = "RuntimeError: out of memory"
    elif phase == CONFIRM:
        correct = round(quality * block.sizes.test)
        metrics |= {
            "test/correct": float(correct),
            "test/items": float(block.sizes.test),
            "test/accuracy": correct / block.sizes.test,
        }
    return TrialRecord(
        number=number,
        cell=cell.name,
        arm=cell.arm,
        block=block.label,
        repeat=repeat,
        phase=phase,
        index=index,
        state=state,
        params=params,
        seed=1000 + number,
        epochs=epochs,
        value=None if state == FAILED else curve[epochs],
        curve=curve,
        metrics=metrics,
        reason=reason,
        wall_seconds=2.5,
    )


class Session:
    """A queue and its ledger, as one session has them."""

    def __init__(self, spec: Spec, path: Path, make_ending: Callable[..., Ending]) -> None:
        self.spec = spec
        self.plan: Plan = make_plan(spec)
        self.ledger = Ledger(path, self.plan, spec.search)
        self.queue = WorkQueue(self.plan, self.ledger)
        self._make_ending = make_ending

    def take(self, count: int) -> list[Job]:
        jobs = [self.queue.next_job() for _ in range(count)]
        assert all(jobs)
        return [job for job in jobs if job is not None]

    def end(self, job: Job, state: str = COMPLETE, value: float | None = 0.5, **changes: object) -> None:
        self.ledger.end(job, self._make_ending(state, value, **changes))

    def run(self) -> list[Job]:
        """Run everything that is left, one at a time."""
        done = []
        while (job := self.queue.next_job()) is not None:
            self.end(job)
            done.append(job)
        return done


@pytest.fixture
def open_session(
    tmp_path: Path, make_spec: Callable[..., Spec], make_ending: Callable[..., Ending]
) -> Callable[..., Session]:
    """Open a study's queue and ledger, or open them again as the next session does; keywords as for `make_spec`."""

    def open_(**changes: object) -> Session:
        return Session(make_spec(**changes), tmp_path / "optuna.log", make_ending)

    return open_
