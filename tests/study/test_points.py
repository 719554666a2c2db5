"""Points that a search is given: grids, points to try first, conditions, and an earlier study's best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search_spaces import Choice, Float, Int, Space, SpaceError
from study.errors import StudyError
from study.home import StudyHome
from study.plan import make_plan
from study.points import fitting, grid_points
from study.records import SAMPLED, TRY_FIRST, WARM_START
from study.search.ledger import Ledger
from study.spec import Spec
from study.warm import warm_points, with_warm_points

SUBSET = (("mode", ("subset",)),)


def test_a_grid_in_order() -> None:
    space = Space({"a": Choice(values=(1.0, 2.0)), "n": Int(low=1, high=3)}, {})
    assert [tuple(point.values()) for point in grid_points("x", space)] == [
        (1.0, 1),
        (1.0, 2),
        (1.0, 3),
        (2.0, 1),
        (2.0, 2),
        (2.0, 3),
    ]


def test_a_grid_leaves_out_what_does_not_apply() -> None:
    space = Space({"mode": Choice(values=("exact", "subset")), "n": Choice(values=(4, 8), when=SUBSET)}, {})
    assert grid_points("x", space) == ({"mode": "exact"}, {"mode": "subset", "n": 4}, {"mode": "subset", "n": 8})


def test_a_range_is_no_grid(make_spec: Callable[..., Spec]) -> None:
    with pytest.raises(StudyError, match=r"base_lr of arm 'lars' is a range \(.*\); write space.lars.base_lr=\{values"):
        make_plan(make_spec(search={"method": "grid"}))


def test_the_grid_gives_the_number_of_trials(make_spec: Callable[..., Spec]) -> None:
    space = {
        "lars": {"base_lr": {"values": [1.0, 2.0]}, "weight_decay": {"values": [0.0, 1e-4, 1e-3]}},
        "sgd": {"base_lr": {"values": [0.1, 0.2]}, "weight_decay": 0.0},
    }
    plan = make_plan(make_spec(space=space, search={"method": "grid", "repeats": 2}))
    assert [cell.trials for cell in plan.cells] == [6, 2]
    assert (plan.search_trials, plan.trials) == (16, 20)
    with pytest.raises(StudyError, match="got 6 where arm 'sgd' has 2 points"):
        make_plan(make_spec(space=space, search={"method": "grid", "trials": 6}))


@pytest.mark.parametrize(
    ("dimensions", "fixed", "left"),
    [
        ({"mode": Choice(values=("exact", "subset")), "n": Int(low=1, high=9, when=SUBSET)}, {}, ["mode", "n"]),
        ({"n": Int(low=1, high=9, when=SUBSET), "mode": Choice(values=("exact", "subset"))}, {}, ["mode", "n"]),
        ({"n": Int(low=1, high=9, when=SUBSET)}, {"mode": "subset"}, ["n"]),
        ({"n": Int(low=1, high=9, when=SUBSET)}, {"mode": "exact"}, []),
        (
            {"n": Choice(values=(1, 2), when=SUBSET), "m": Float(low=0, high=1, when=(("n", (1,)),))},
            {"mode": "exact"},
            [],
        ),
    ],
)
def test_conditions_on_what_is_fixed_are_answered(dimensions: Any, fixed: Any, left: list[str]) -> None:
    space = Space(dimensions, fixed).conditioned()
    assert list(space.dimensions) == left
    if "mode" in fixed and left:
        assert space.dimensions["n"].when == ()


@pytest.mark.parametrize(
    ("dimensions", "words"),
    [
        ({"n": Int(low=1, high=9, when=SUBSET)}, "'mode', which is no hyperparameter of this arm"),
        ({"n": Int(low=1, high=9, when=SUBSET), "mode": Float(low=0, high=1)}, "'mode', which is a range"),
        ({"n": Int(low=1, high=9, when=SUBSET), "mode": Choice(values=("exact",))}, "is no value of that choice"),
        (
            {"a": Choice(values=(1,), when=(("b", (1,)),)), "b": Choice(values=(1,), when=(("a", (1,)),))},
            "wait for each other",
        ),
    ],
)
def test_conditions_that_cannot_hold(dimensions: Any, words: str) -> None:
    with pytest.raises(SpaceError, match=words):
        Space(dimensions, {}).conditioned()


def test_a_conditional_study_asks_only_what_applies(make_spec: Callable[..., Spec], tmp_path: Path) -> None:
    space = {
        "clars": {
            "sample_norms": {"values": ["exact", "subset"]},
            "norm_samples": {"low": 4, "high": 64, "int": True, "log": True, "when": {"sample_norms": ["subset"]}},
        }
    }
    spec = make_spec(arms=["clars"], space=space, search={"method": "tpe", "trials": 12, "repeats": 1})
    plan = make_plan(spec)
    ledger = Ledger(tmp_path / "optuna.log", plan, spec.search)
    jobs = [ledger.begin_search_trial(plan.cells[0], 0) for _ in range(12)]
    assert {job.params["sample_norms"] for job in jobs} == {"exact", "subset"}
    assert all(("norm_samples" in job.params) == (job.params["sample_norms"] == "subset") for job in jobs)
    again = Ledger(tmp_path / "optuna.log", plan, spec.search)
    assert list(again.cut_off_jobs()) == jobs
    fixed = make_spec(arms=["clars"], space={"clars": {**space["clars"], "sample_norms": "exact"}})
    assert "norm_samples" not in make_plan(fixed).cells[0].dimensions


def test_points_are_tried_first_counted_and_marked(make_spec: Callable[..., Spec], tmp_path: Path) -> None:
    first = {"all": [{"base_lr": 0.5, "warmup_epochs": 1.0}], "lars": [{"base_lr": 3.0, "weight_decay": 1e-4}]}
    spec = make_spec(search={"method": "random", "trials": 4, "repeats": 2, "try_first": first})
    plan = make_plan(spec)
    ledger = Ledger(tmp_path / "optuna.log", plan, spec.search)
    lars, sgd = plan.cells
    for repeat in (0, 1):  # in each search
        jobs = [ledger.begin_search_trial(lars, repeat) for _ in range(4)]
        assert [job.params["base_lr"] for job in jobs[:2]] == [0.5, 3.0]
        assert jobs[1].params["weight_decay"] == 1e-4
        origins = [ledger.record(job.number).origin for job in jobs]
        assert origins == [TRY_FIRST, TRY_FIRST, SAMPLED, SAMPLED]
    assert ledger.begin_search_trial(sgd, 0).params["base_lr"] == 0.5
    again = Ledger(tmp_path / "optuna.log", plan, spec.search)
    assert [record.origin for record in again.records()] == [record.origin for record in ledger.records()]
    with pytest.raises(StudyError, match="has 2 points for arm 'lars', but a search has 1 trials"):
        make_plan(make_spec(search={"trials": 1, "try_first": first}))


def test_warm_start_takes_each_arms_best_and_keeps_to_it(
    make_spec: Callable[..., Spec], make_record: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from study import session

    earlier = make_record()
    monkeypatch.setattr(session, "load_record", lambda place: earlier)
    search = {"method": "random", "trials": 3, "repeats": 1, "warm_start": {"study": "before"}}
    spec = make_spec(arms=["lars", "adamw"], search=search)
    plan = make_plan(spec)
    place = StudyHome(tmp_path, "tiny")
    points = warm_points(spec, plan, place, {})
    own = [t for t in earlier.trials if t.arm == "lars" and t.phase == "search" and t.state == "complete"]
    best = max(own, key=lambda trial: trial.value)
    assert points == {"lars/B64": dict(best.params), "adamw/B64": {}}

    warm = with_warm_points(plan, points)
    ledger = Ledger(tmp_path / "optuna.log", warm, spec.search)
    jobs = [ledger.begin_search_trial(warm.cells[0], 0) for _ in range(2)]
    assert jobs[0].params == dict(best.params)
    assert [ledger.record(job.number).origin for job in jobs] == [WARM_START, SAMPLED]

    monkeypatch.setattr(session, "load_record", lambda place: 1 / 0)
    assert warm_points(spec, plan, place, points) == points  # later sessions do not look again
    with pytest.raises(StudyError, match="the study itself"):
        warm_points(make_spec(search={**search, "warm_start": {"study": "tiny"}}), plan, place, {})
    monkeypatch.setattr(session, "load_record", lambda place: replace(earlier, trials=()))
    with pytest.raises(StudyError, match="found nothing for lars, adamw"):
        warm_points(spec, plan, place, {})


def test_what_lies_outside_the_new_space_is_left_to_the_sampler() -> None:
    space = Space({"a": Float(low=0, high=1), "b": Float(low=0, high=1)}, {"c": 1})
    assert fitting(space, {"a": 0.5, "b": 3.0, "c": 2, "d": 1}) == {"a": 0.5}
