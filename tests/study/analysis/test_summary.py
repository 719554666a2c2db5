from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, logit

from study.analysis.summary import summarize
from study.records import COMPLETE, CONFIRM, DIVERGED, RUNNING, SEARCH


def test_counts_and_spend_are_those_of_the_trials(make_record) -> None:
    record = make_record()
    summary = summarize(record)
    assert len(summary.cells) == 5
    for cell in summary.cells:
        own = [t for t in record.trials if t.cell == cell.cell.name]
        search = [t.state for t in own if t.phase == SEARCH]
        assert cell.search.complete == search.count("complete")
        assert cell.search.pruned == search.count("pruned")
        assert cell.search.diverged == search.count("diverged")
        assert cell.search.failed == search.count("failed")
        assert cell.epochs_spent == sum(t.epochs for t in own)
        failed = [t.epochs for t in own if t.state == "failed"]
        assert cell.epochs_full == 20 * (6 + 1) * 3 + sum(failed)
        rate = cell.divergence
        assert rate is not None
        assert (rate.events, rate.trials) == (search.count("diverged"), len(search))
    assert summary.epochs_spent == sum(t.epochs for t in record.trials)
    assert summary.epochs_full == 5 * 3 * 7 * 20 + sum(t.epochs for t in record.trials if t.state == "failed")
    assert sum(cell.search.diverged for cell in summary.cells) == 3


def test_mean_and_interval_over_repeats(make_record) -> None:
    record = make_record(confirm_seeds=2)
    for cell in summarize(record).cells:
        confirm = [t for t in record.trials if t.cell == cell.cell.name and t.phase == CONFIRM]
        counts = [np.mean([t.metrics["test/correct"] for t in confirm if t.repeat == r]) for r in range(3)]
        z = logit((np.array(counts) + 0.5) / 361)
        low, _ = stats.t.interval(0.95, 2, loc=z.mean(), scale=stats.sem(z))
        assert cell.mean_points == pytest.approx(100 * np.mean(counts) / 360)
        assert cell.interval is not None
        assert cell.interval.n == 3
        assert cell.interval.low == pytest.approx(100 * (expit(low) * 361 - 0.5) / 360)


def test_cells_are_ranked_within_their_block_only(make_record) -> None:
    summary = summarize(make_record(batch_size=["full", 256]))
    assert [block.block.label for block in summary.blocks] == ["B1077", "B256"]
    for block in summary.blocks:
        assert all(cell.cell.block.label == block.block.label for cell in block.cells)
        means = [cell.mean_points for cell in block.cells]
        assert len(means) == 5
        assert means == sorted(means, reverse=True)


def test_a_cell_without_a_score_stands_last(make_record) -> None:
    record = make_record()
    best = summarize(record).blocks[0].cells[0].cell.name
    kept = tuple(t for t in record.trials if not (t.cell == best and t.phase == CONFIRM))
    last = summarize(replace(record, trials=kept)).blocks[0].cells[-1]
    assert last.cell.name == best
    assert (last.mean_points, last.interval) == (None, None)


def test_one_repeat_gives_a_mean_and_no_interval(make_record) -> None:
    summary = summarize(make_record(repeats=1))
    assert summary.single_repeat
    for cell in summary.cells:
        assert cell.mean_points is not None
        assert cell.interval is None
    assert summary.blocks[0].resolution.difference_points is None


def test_all_diverged_is_chance_and_not_dropped(make_record) -> None:
    summary = summarize(make_record(all_diverged=True))
    for cell in summary.cells:
        assert cell.mean_points == pytest.approx(10)
        assert cell.divergence is not None
        assert cell.divergence.rate == 1


def test_an_empty_or_running_study_is_summarised(make_record) -> None:
    summary = summarize(make_record(empty=True, finished=False))
    assert not summary.finished
    assert all(cell.divergence is None and not cell.winners for cell in summary.cells)
    record = make_record()
    first = replace(record.trials[0], state=RUNNING, epochs=3)
    running = summarize(replace(record, trials=(first, *record.trials[1:])))
    assert not running.finished
    assert running.counts.running == 1
    assert running.counts.ended == len(record.trials) - 1


def test_a_search_value_never_moves_a_score(make_record) -> None:
    record = make_record()
    inflated = tuple(
        replace(t, value=1.0, curve=dict.fromkeys(t.curve, 1.0)) if t.phase == SEARCH and t.state == COMPLETE else t
        for t in record.trials
    )
    before, after = summarize(record), summarize(replace(record, trials=inflated))
    assert [c.mean_points for c in before.cells] == [c.mean_points for c in after.cells]
    assert [c.interval for c in before.cells] == [c.interval for c in after.cells]


def test_score_of_a_repeat(make_record) -> None:
    cell = summarize(make_record()).cells[0]
    assert cell.score_of(2) is cell.scores[2]
    assert cell.score_of(9) is None


def test_a_diverged_confirm_run_pulls_the_mean_down(make_record) -> None:
    record = make_record()
    name = summarize(record).cells[0].cell.name
    trials = tuple(
        replace(t, state=DIVERGED) if t.cell == name and t.phase == CONFIRM and t.repeat == 0 else t
        for t in record.trials
    )
    cell = next(c for c in summarize(replace(record, trials=trials)).cells if c.cell.name == name)
    others = [t.metrics["test/accuracy"] for t in record.trials if t.cell == name and t.phase == CONFIRM][1:]
    assert cell.mean_points == pytest.approx(100 * (0.1 + sum(others)) / 3)


def test_notes_say_what_changed_the_plan(make_record) -> None:
    record = make_record(arms=("lars", "sgd"))
    assert summarize(record).notes == ()
    record = replace(
        record, ended_by="budget.wall=2h", added=("arm sgd", "repeats 2 -> 3"), stopped_cells=("lars/B1077",)
    )
    ended, added, stopped = summarize(record).notes
    assert "budget.wall=2h" in ended
    assert added == "Added after the lock: arm sgd; repeats 2 -> 3."
    assert stopped.startswith("The user stopped lars/B1077:")
