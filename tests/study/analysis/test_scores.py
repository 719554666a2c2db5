from dataclasses import replace

import pytest

from search_spaces import Choice, Float, Int
from study.analysis.scores import edge_knobs, further_scores, repeat_scores, winners
from study.records import COMPLETE, CONFIRM, DIVERGED, FAILED, SEARCH, StudyRecord


def changed(record: StudyRecord, chosen: object, **changes: object) -> StudyRecord:
    trials = tuple(replace(t, **changes) if chosen(t) else t for t in record.trials)  # type: ignore[operator,arg-type]
    return replace(record, trials=trials)


def test_confirm_seeds_are_averaged_within_the_repeat(make_record) -> None:
    record = make_record(arms=("lars",), repeats=2, confirm_seeds=3)
    cell = record.plan.cells[0]
    scores = repeat_scores(record, cell)
    assert [score.repeat for score in scores] == [0, 1]
    for score in scores:
        own = [t.metrics["test/correct"] for t in record.trials if t.phase == CONFIRM and t.repeat == score.repeat]
        assert len(own) == score.runs == 3
        assert score.points == pytest.approx(100 * sum(own) / 3 / 360)


def test_a_diverged_confirm_run_counts_with_chance_whatever_it_reported(make_record) -> None:
    record = make_record(arms=("lars",), repeats=1, confirm_seeds=2)
    one = next(t for t in record.trials if t.phase == CONFIRM and t.index == 0)
    good = next(t for t in record.trials if t.phase == CONFIRM and t.index == 1)
    record = changed(record, lambda t: t.number == one.number, state=DIVERGED)
    (score,) = repeat_scores(record, record.plan.cells[0])
    assert (score.runs, score.diverged) == (2, 1)
    assert score.points == pytest.approx((10.0 + 100 * good.metrics["test/accuracy"]) / 2)


def test_a_failed_confirm_run_is_no_score(make_record) -> None:
    record = make_record(arms=("lars",), repeats=2)
    record = changed(record, lambda t: t.phase == CONFIRM and t.repeat == 1, state=FAILED)
    assert [score.repeat for score in repeat_scores(record, record.plan.cells[0])] == [0]


def test_accuracy_alone_is_enough(make_record) -> None:
    record = make_record(arms=("lars",), repeats=1)
    record = changed(record, lambda t: t.phase == CONFIRM, metrics={"test/accuracy": 0.5})
    (score,) = repeat_scores(record, record.plan.cells[0])
    assert (score.correct, score.items) == (180, 360)


def test_winner_is_the_best_complete_trial_until_a_confirm_run_says_otherwise(make_record) -> None:
    record = make_record(arms=("lars",), repeats=1)
    cell = record.plan.cells[0]
    search = [t for t in record.trials if t.phase == SEARCH]
    best = max((t for t in search if t.state == COMPLETE), key=lambda t: t.value)
    (winner,) = winners(replace(record, trials=tuple(search)), cell)
    assert (winner.number, winner.search_value) == (best.number, best.value)
    other = next(t for t in search if t.state == COMPLETE and t is not best)
    record = changed(record, lambda t: t.phase == CONFIRM, params=other.params)
    (winner,) = winners(record, cell)
    assert (winner.number, dict(winner.params)) == (other.number, dict(other.params))


def test_a_stopped_or_diverged_trial_is_never_the_winner(make_record) -> None:
    record = make_record(arms=("lars",), repeats=1)
    search = tuple(replace(t, value=0.999) if t.state != COMPLETE else t for t in record.trials if t.phase == SEARCH)
    (winner,) = winners(replace(record, trials=search), record.plan.cells[0])
    assert winner.search_value != 0.999
    assert winners(replace(record, trials=()), record.plan.cells[0]) == ()


@pytest.mark.parametrize(
    ("value", "where"),
    [(1.2e-5, "at the low end"), (3e-5, None), (1e-3, None), (9e-3, "at the high end"), (0.5, "outside the range")],
)
def test_edges_on_the_scale_that_is_searched(value: float, where: str | None) -> None:
    dimensions = {"weight_decay": Float(low=1e-5, high=1e-2, log=True)}
    assert edge_knobs({"weight_decay": value}, dimensions).get("weight_decay") == where


def test_choices_points_and_missing_knobs_have_no_edge() -> None:
    dimensions = {"init": Choice(values=("a", "b")), "depth": Int(low=3, high=3), "absent": Float(low=0, high=1)}
    assert edge_knobs({"init": "a", "depth": 3}, dimensions) == {}
    assert edge_knobs({"depth": 10}, {"depth": Int(low=1, high=10)}) == {"depth": "at the high end"}


@pytest.mark.parametrize(
    ("value", "where"), [(0.25, "at the low end"), (0.5, None), (1.5, None), (6.0, "at the high end")]
)
def test_the_ends_of_a_grid_axis_are_edges(value: float, where: str | None) -> None:
    axis = {"base_lr": Choice(values=(0.25, 0.5, 1.5, 6.0))}
    assert edge_knobs({"base_lr": value}, axis).get("base_lr") == where


def test_further_scores_are_means_over_repeats_of_means_over_seeds(make_record) -> None:
    record = make_record(arms=("lars",), repeats=2, confirm_seeds=2)
    cell = record.plan.cells[0]
    assert further_scores(record, cell) == {}
    values = {(0, 0): 0.9, (0, 1): 0.7, (1, 0): 0.6, (1, 1): 0.4}
    trials = tuple(
        replace(t, metrics={**t.metrics, "test/knn_accuracy": values[t.repeat, t.index]}) if t.phase == CONFIRM else t
        for t in record.trials
    )
    record = replace(record, trials=trials)
    assert further_scores(record, cell) == {"test/knn_accuracy": pytest.approx(100 * (0.8 + 0.5) / 2)}
    last = changed(record, lambda t: t.phase == CONFIRM and (t.repeat, t.index) == (1, 1), state=FAILED)
    assert further_scores(last, cell)["test/knn_accuracy"] == pytest.approx(100 * (0.8 + 0.6) / 2)
    lost = changed(record, lambda t: t.phase == CONFIRM and (t.repeat, t.index) == (1, 1), state=DIVERGED)
    assert further_scores(lost, cell)["test/knn_accuracy"] == pytest.approx(100 * (0.8 + 0.35) / 2)  # ten classes


def test_a_guess_has_five_answers_in_the_top_5(make_record) -> None:
    record = make_record(arms=("lars",), repeats=1)
    record = changed(record, lambda t: t.phase == CONFIRM, state=DIVERGED, metrics={"test/top5_accuracy": 0.9})
    assert further_scores(record, record.plan.cells[0]) == {"test/top5_accuracy": pytest.approx(50.0)}
