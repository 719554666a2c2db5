from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, logit

from study.analysis.ablation import GridTable, grid_tables
from study.records import CONFIRM, DIVERGED, FAILED, PRUNED, SEARCH, StudyRecord

TWO_AXES = {
    "search": {"method": "grid", "repeats": 3},
    "space": {
        "lars": {"base_lr": {"values": [1.0, 5.0]}, "weight_decay": 1e-4},
        "tvlars": {
            "base_lr": {"values": [1.0, 5.0, 25.0]},
            "weight_decay": 1e-4,
            "decay_epochs": 1.0,
            "delay_epochs": 1.0,
        },
    },
    "claims": [],
}


ONE_ARM = {**TWO_AXES, "space": {"lars": {"base_lr": {"values": [1.0, 5.0]}, "weight_decay": 1e-4}}}


def table_of(record: StudyRecord, arm: str) -> GridTable:
    (found,) = (table for table in grid_tables(record) if table.arms == (arm,))
    return found


def test_learning_rate_by_batch_size(make_record) -> None:
    record = make_record(arms=("lars", "tvlars"), batch_size=[64, 256, "full"], spec=TWO_AXES)
    assert [table.arms for table in grid_tables(record)] == [("lars",), ("tvlars",)]
    table = table_of(record, "tvlars")
    assert (table.row, table.rows, table.column, table.columns) == (
        "base_lr",
        (1.0, 5.0, 25.0),
        "batch_size",
        (64, 256, 1077),
    )
    assert len(table.points) == 9
    own = [
        t
        for t in record.trials
        if t.phase == SEARCH and t.cell == "tvlars/B256" and t.params["base_lr"] == 5.0 and t.state not in (FAILED,)
    ]
    values = np.array([t.value for t in own])
    point = table.points[5.0, 256]
    assert point.points == pytest.approx(100 * values)
    assert point.mean == pytest.approx(100 * values.mean())
    z = logit((360 * values + 0.5) / 361)  # 360 validation images
    ends = stats.t.interval(0.95, len(z) - 1, loc=z.mean(), scale=stats.sem(z))
    assert point.interval is not None
    assert (point.interval.low, point.interval.high) == pytest.approx(
        tuple(100 * (expit(end) * 361 - 0.5) / 360 for end in ends)
    )


def test_the_confirm_runs_of_selected_points_stand_beside(make_record) -> None:
    record = make_record(arms=("lars", "tvlars"), batch_size=[64, 256], spec=TWO_AXES)
    table = table_of(record, "tvlars")
    for batch_size in (64, 256):
        cell = f"tvlars/B{batch_size}"
        confirms = [t for t in record.trials if t.phase == CONFIRM and t.cell == cell]
        column = {rate: table.points[rate, batch_size] for rate in table.rows}
        assert sum(point.selected for point in column.values()) == 3
        for rate, point in column.items():
            own = [t for t in confirms if t.params["base_lr"] == rate]
            assert point.selected == len(own)
            assert point.confirmed == pytest.approx([100 * t.metrics["test/accuracy"] for t in own])
            mean = point.mean_confirmed
            assert (mean is None) == (not own)
            if own:
                assert mean == pytest.approx(np.mean([100 * t.metrics["test/accuracy"] for t in own]))


def test_arms_that_share_their_one_axis_share_a_table(make_record) -> None:
    inits = ["default", "xavier_uniform", "kaiming_normal", "kaiming_uniform"]
    fixed = {"base_lr": 1.0, "weight_decay": 1e-4, "warmup_epochs": 1.0}
    spec = {
        "search": {"method": "grid", "repeats": 1},
        "space": {"all": {**fixed, "init": {"values": inits}}, "lamb_warmup": {"init": {"values": inits[:2]}}},
        "claims": [],
    }
    record = make_record(arms=("lars", "lars_warmup", "lamb_warmup"), repeats=1, spec=spec)
    shared, other = grid_tables(record)
    assert shared.arms == ("lars", "lars_warmup")
    assert (shared.row, shared.rows) == ("init", tuple(inits))
    assert (shared.column, shared.columns) == ("arm", ("lars", "lars_warmup"))
    assert (other.arms, other.rows) == (("lamb_warmup",), tuple(inits[:2]))
    point = shared.points["default", "lars_warmup"]
    assert len(point.points) == 1
    assert point.interval is None


def test_more_than_two_axes_make_a_table_each(make_record) -> None:
    spec = {
        "search": {"method": "grid", "repeats": 1},
        "space": {
            "lars": {"base_lr": {"values": [1.0, 5.0]}, "weight_decay": {"values": [0.0, 1e-4, 1e-3]}},
        },
        "claims": [],
    }
    record = make_record(arms=("lars",), repeats=1, batch_size=[64, 256], spec=spec)
    tables = grid_tables(record)
    assert [dict(table.fixed) for table in tables] == [{"base_lr": 1.0}, {"base_lr": 5.0}]
    assert all((table.row, table.column) == ("weight_decay", "batch_size") for table in tables)
    assert all(len(table.points) == 6 for table in tables)


def test_blocks_that_differ_otherwise_are_kept_apart(make_record) -> None:
    spec = {
        **ONE_ARM,
        "train": {"epochs": 4, "batch_size": [64, 256], "one_d_lr": ["raw", "capped"]},
    }
    tables = grid_tables(make_record(arms=("lars",), spec=spec))
    assert [table.setting for table in tables] == [
        "digits, resnet8, one_d_lr raw",
        "digits, resnet8, one_d_lr capped",
    ]
    assert all(table.columns == (64, 256) for table in tables)


def test_states_of_a_points_trials(make_record) -> None:
    record = make_record(arms=("lars",), repeats=4, spec={**ONE_ARM, "search": {"method": "grid", "repeats": 4}})
    states = iter((DIVERGED, FAILED, PRUNED))
    trials = [
        replace(t, state=state, value=None if state == FAILED else 0.1)
        if t.phase == SEARCH and t.params["base_lr"] == 1.0 and (state := next(states, None))
        else t
        for t in record.trials
    ]
    (table,) = grid_tables(replace(record, trials=tuple(trials)))
    (point,) = (table.points[row, "lars"] for row in table.rows if row == 1.0)
    assert (point.diverged, point.failed, point.stopped) == (1, 1, 1)
    assert len(point.points) == 2
    assert min(point.points) == pytest.approx(10)


def test_nothing_to_tabulate(make_record) -> None:
    assert grid_tables(make_record()) == ()
    fixed = {"lars": {"base_lr": 1.0, "weight_decay": 1e-4}}
    spec = {"search": {"method": "grid", "repeats": 1}, "space": fixed, "claims": []}
    assert grid_tables(make_record(arms=("lars",), repeats=1, spec=spec)) == ()
    empty = make_record(arms=("lars", "tvlars"), batch_size=[64, 256], spec=TWO_AXES, empty=True, finished=False)
    assert all(point.mean is None for table in grid_tables(empty) for point in table.points.values())
