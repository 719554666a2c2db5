from dataclasses import replace

import pytest

from study.records import DIVERGED, SEARCH
from study.reporting.grid import DARKEST, grid_views

SPEC = {
    "search": {"method": "grid", "repeats": 2},
    "space": {"lars": {"base_lr": {"values": [1.0, 5.0, 25.0]}, "weight_decay": 1e-4}},
    "claims": [],
}


def test_rows_and_columns_in_words(make_record) -> None:
    (view,) = grid_views(make_record(arms=("lars",), batch_size=[64, "full"], spec=SPEC))
    assert (view.title, view.arms, view.row, view.column) == ("lars", ("lars",), "base_lr", "batch size")
    assert view.columns == ("64", "1,077")
    assert [name for name, _ in view.rows] == ["1", "5", "25"]
    cells = [cell for _, row in view.rows for cell in row]
    assert all(cell is not None and cell.interval.startswith("[") for cell in cells)
    assert sum("selected" in cell.selected for cell in cells if cell) >= 2


def test_shades_span_five_points_at_least_and_ignore_divergence(make_record) -> None:
    record = make_record(arms=("lars",), spec=SPEC)
    values = {1.0: 0.1, 5.0: 0.90, 25.0: 0.91}
    trials = tuple(
        replace(t, value=values[t.params["base_lr"]], state=DIVERGED if t.params["base_lr"] == 1.0 else "complete")
        if t.phase == SEARCH
        else t
        for t in record.trials
    )
    (view,) = grid_views(replace(record, trials=trials))
    lost, good, best = (row[0] for _, row in view.rows)
    assert lost is not None
    assert good is not None
    assert best is not None
    assert (lost.mean, lost.notes, lost.shade) == ("10.0", ("2 diverged",), 0)
    assert best.shade == DARKEST
    assert good.shade == round(DARKEST * 4 / 5)


def test_a_study_without_results_has_empty_entries(make_record) -> None:
    (view,) = grid_views(make_record(arms=("lars",), spec=SPEC, empty=True, finished=False))
    assert {cell.mean for _, row in view.rows for cell in row if cell} == {"-"}


@pytest.mark.parametrize("one", [True, False])
def test_nothing_to_show(make_record, one: bool) -> None:
    point = {**SPEC, "space": {"lars": {"base_lr": 1.0, "weight_decay": 1e-4}}}
    assert grid_views(make_record(arms=("lars",), spec=point) if one else make_record()) == []
