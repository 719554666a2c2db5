from collections.abc import Sequence
from dataclasses import replace

import pytest

from study.records import AUDIT, COMPLETE, PRUNED, RERANK, STOPPED_BY_USER, TOP_UP, WARM_START, StudyRecord, TrialRecord
from study.reporting.engine import engine_view

PLANNED = {
    "search": {"trials": 6, "repeats": 2, "equalize": True, "early_stopping": {"method": "asha", "audit": 0.5}},
    "confirm": {"seeds": 1, "rerank": 2},
}


def added(record: StudyRecord, trials: Sequence[TrialRecord], phase: str, value: float) -> StudyRecord:
    first = len(record.trials)
    runs = [
        replace(trial, number=first + index, phase=phase, index=index, state=COMPLETE, value=value, of=trial.number)
        for index, trial in enumerate(trials)
    ]
    return replace(record, trials=(*record.trials, *runs))


def column(record: StudyRecord, head: str) -> tuple[str, ...] | None:
    return dict(engine_view(record).columns).get(head)


def test_a_plain_study_has_few_columns(make_record) -> None:
    record = make_record(arms=("lars", "sgd"), repeats=2, spec={"search": {"trials": 4, "repeats": 2}})
    view = engine_view(record)
    assert [head for head, _ in view.columns] == ["search", "confirm", "epochs", "device-hours"]
    assert view.sentences == view.upsets == view.reranks == ()
    assert column(record, "search") == ("8 of 8", "8 of 8")
    epochs = [sum(t.epochs for t in record.trials if t.arm == arm) for arm in ("lars", "sgd")]
    assert column(record, "epochs") == tuple(f"{n} of 200 ({100 * n / 200:.0f}%)" for n in epochs)


def test_everything_that_happened_is_said(make_record) -> None:
    record = make_record(arms=("lars_warmup",), repeats=2, spec=PLANNED)
    trials = list(record.trials)
    trials[0] = replace(trials[0], origin=TOP_UP)
    trials[1] = replace(trials[1], origin=WARM_START)
    stopped = [t for t in trials if t.state == PRUNED]
    trials[stopped[0].number] = replace(stopped[0], reason=STOPPED_BY_USER)
    record = replace(record, trials=tuple(trials), device_seconds={"lars_warmup/B1077": 3600.0})
    record = added(record, stopped[1:3], AUDIT, 0.999)
    search = [t for t in trials if t.repeat == 0 and t.phase == "search" and t.state == COMPLETE]
    best = sorted(search, key=lambda t: -(t.value or 0.0))[:2]
    record = added(record, best[1:], RERANK, 0.9)
    record = replace(added(record, best[:1], RERANK, 0.5), stopped_cells=("lars_warmup/B1077",))
    view = engine_view(record)
    said = " ".join(view.sentences)
    assert "1 trials in all" in said
    assert "1 search trials took the best points of an earlier study" in said
    assert "1 of 1 searches changed theirs" in said
    assert "Of 3 trials that a rung stopped 2 were drawn at random" in said
    assert "(50% asked for); 2 of them beat the winner" in said
    assert column(record, "re-ranked") == ("2 of 4",)
    assert column(record, "topped up") == ("1",)
    assert column(record, "stopped at a rung") == ("3",)
    assert column(record, "audited (would have won)") == ("2 (2)",)
    assert column(record, "stopped by the user") == ("1, and the cell",)
    (hours,) = column(record, "device-hours") or ()
    assert hours.startswith("1.00 of ")
    assert len(view.upsets) == 2
    assert f"trial {stopped[1].number} was stopped, and run to the end it came to 99.9%" in view.upsets[0]
    assert len(view.reranks) == 1


@pytest.mark.parametrize("finished", [True, False])
def test_without_trials(make_record, finished: bool) -> None:
    record = make_record(arms=("lars_warmup",), spec=PLANNED, empty=True, finished=finished)
    assert column(record, "search") == ("0 of 12",)
    assert column(record, "device-hours") == ("0.00 of -",)
