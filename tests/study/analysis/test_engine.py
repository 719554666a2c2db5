from dataclasses import replace

import pytest

from study.analysis.engine import cell_spending, reranks
from study.records import (
    AUDIT,
    COMPLETE,
    CONFIRM,
    DIVERGED,
    PRUNED,
    RERANK,
    RUNNING,
    SEARCH,
    STOPPED_BY_USER,
    TOP_UP,
    TRY_FIRST,
    StudyRecord,
    TrialRecord,
)

PLANNED = {
    "search": {"trials": 6, "repeats": 2, "early_stopping": {"method": "asha", "audit": 0.5}},
    "confirm": {"seeds": 1, "rerank": 3},
}


def with_runs(record: StudyRecord, phase: str, values: dict[int, float], state: str = COMPLETE) -> StudyRecord:
    """Runs of a phase for the search trials whose numbers are given."""
    numbers = {trial.number: trial for trial in record.trials}
    first = len(record.trials)
    runs: list[TrialRecord] = []
    for index, (of, value) in enumerate(values.items()):
        run = replace(numbers[of], number=first + index, phase=phase, index=index, state=state)
        runs.append(replace(run, value=value, epochs=20, of=of, wall_seconds=1.0))
    return replace(record, trials=(*record.trials, *runs))


def test_phases_epochs_and_hours(make_record) -> None:
    record = make_record(arms=("lars", "sgd_warmup"), repeats=2)
    trials = tuple(replace(t, state=RUNNING) if t.number == 0 else t for t in record.trials)
    trials = tuple(
        replace(t, origin=TOP_UP if t.index == 5 else TRY_FIRST if t.index == 0 else t.origin) for t in trials
    )
    record = replace(record, trials=trials, device_seconds={"lars/B1077": 7200.0}, stopped_cells=("lars/B1077",))
    lars, sgd = cell_spending(record)
    own = [t for t in record.trials if t.arm == "lars"]
    assert dict(lars.phases) == {SEARCH: 11, CONFIRM: 2}
    assert (lars.topped_up, lars.tried_first) == (2, 2)
    assert lars.closed
    assert not sgd.closed
    assert lars.epochs == sum(t.epochs for t in own)
    assert lars.epochs_planned == 20 * (6 + 1) * 2
    assert lars.device_hours == 2.0
    assert lars.device_hours_planned == pytest.approx(2.0 / lars.epochs * 280)
    assert sgd.device_hours == pytest.approx(2.5 * 14 / 3600)  # kept by no session: of its trials' wall time


def test_a_cell_without_trials(make_record) -> None:
    (cell,) = cell_spending(make_record(arms=("lars",), empty=True, finished=False))
    assert (cell.epochs, cell.device_hours, cell.device_hours_planned) == (0, 0.0, None)
    assert reranks(make_record(empty=True)) == ()


def test_audits_and_stops(make_record) -> None:
    record = make_record(arms=("lars_warmup",), repeats=2, spec=PLANNED)
    stopped = [t for t in record.trials if t.state == PRUNED]
    asked = stopped[0].number
    trials = tuple(replace(t, reason=STOPPED_BY_USER) if t.number == asked else t for t in record.trials)
    record = with_runs(replace(record, trials=trials), AUDIT, {stopped[1].number: 0.999, stopped[2].number: 0.1})
    (cell,) = cell_spending(record)
    assert (cell.stopped_by_rung, cell.stopped_by_user) == (3, 1)
    assert cell.audit.looked_at == 2
    ((run, best),) = cell.audit.upsets
    assert (run.of, best.phase) == (stopped[1].number, SEARCH)


def test_reranked_searches(make_record) -> None:
    record = make_record(arms=("lars_warmup",), repeats=2, spec=PLANNED)
    first, second = (
        sorted(
            (t for t in record.trials if t.phase == SEARCH and t.repeat == repeat and t.state == COMPLETE),
            key=lambda t: -(t.value or 0.0),
        )[:3]
        for repeat in (0, 1)
    )
    record = with_runs(record, RERANK, {first[0].number: 0.5, first[1].number: 0.7, first[2].number: 0.6})
    record = with_runs(record, RERANK, {second[0].number: 0.9, second[1].number: 0.2})
    record = with_runs(record, RERANK, {second[2].number: 0.1}, DIVERGED)
    changed, kept = reranks(record)
    assert (changed.cell, changed.repeat, changed.changed) == ("lars_warmup/B1077", 0, True)
    assert [(c.trial.number, c.fresh, c.chosen) for c in changed.candidates] == [
        (first[0].number, 0.5, False),
        (first[1].number, 0.7, True),
        (first[2].number, 0.6, False),
    ]
    assert not kept.changed
    assert [c.diverged for c in kept.candidates] == [False, False, True]
