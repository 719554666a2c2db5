"""What follows from a search: re-ranking, audits, further trials up to equal spending; and grids, each point once."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from study.records import AUDIT, COMPLETE, CONFIRM, DIVERGED, FAILED, LISTED, PRUNED, RERANK, SEARCH, TOP_UP
from study.selection import audit_of, to_audit

OpenSession = Callable[..., Any]
ONE = {"trials": 4, "repeats": 1, "method": "random"}
STOPPING = {"method": "asha", "first_rung": 1, "reduction_factor": 3}
GRID = {
    "base_lr": {"values": [1.0, 2.0, 4.0]},
    "weight_decay": {"values": [0.0, 1e-4, 1e-3]},
    "nesterov": {"values": [True, False]},
}


def test_the_best_few_run_once_more_with_one_fresh_seed_and_the_best_of_these_is_confirmed(
    open_session: OpenSession,
) -> None:
    session = open_session(arms=["lars"], search=ONE, confirm={"seeds": 2, "rerank": 3})
    searched = session.take(4)
    for job, value in zip(searched, (0.5, 0.9, 0.8, 0.7), strict=True):
        session.end(job, value=value)
    runs = session.take(3)
    assert [(run.phase, run.params) for run in runs] == [(RERANK, searched[index].params) for index in (1, 2, 3)]
    assert len({run.seed for run in runs}) == 1  # candidates are compared on the same fresh seed
    assert runs[0].seed not in {job.seed for job in searched}
    assert session.queue.next_job() is None  # the winner is not known before all are back
    session.end(runs[0], value=0.6)
    session.end(runs[2], value=0.65)
    assert session.queue.next_job() is None
    session.end(runs[1], value=0.75)
    confirms = session.take(2)
    assert [(run.phase, run.params) for run in confirms] == [(CONFIRM, searched[2].params)] * 2
    assert all(session.ledger.record(run.number).of == searched[2].number for run in confirms)


def test_a_rerank_run_that_fails_is_replaced_once_and_one_that_diverges_loses(open_session: OpenSession) -> None:
    session = open_session(arms=["lars"], search=ONE, confirm={"rerank": 2})
    searched = session.take(4)
    for job, value in zip(searched, (0.9, 0.8, 0.7, 0.6), strict=True):
        session.end(job, value=value)
    first, second = session.take(2)
    session.end(first, DIVERGED, 0.95)
    session.end(second, FAILED, None)
    (again,) = session.take(1)
    assert (again.phase, again.params) == (RERANK, searched[1].params)
    session.end(again, value=0.3)
    assert session.take(1)[0].params == searched[1].params


def test_a_tenth_of_the_stopped_trials_is_audited_with_the_same_seed(open_session: OpenSession) -> None:
    search = {"trials": 21, "repeats": 2, "method": "random", "early_stopping": {**STOPPING, "audit": 0.1}}
    session = open_session(arms=["lars"], search=search)
    jobs = session.take(42)
    for job in jobs:
        if job.index == 0:
            session.end(job, value=0.8)
        else:
            session.end(job, PRUNED, 0.4, epochs=1)
    assert session.queue.next_job().phase == CONFIRM
    rest = session.take(5)
    audits = [job for job in rest if job.phase == AUDIT]
    assert len(audits) == 4  # of 40 stopped trials
    by_number = {job.number: job for job in jobs}
    for audit in audits:
        stopped = by_number[session.ledger.record(audit.number).of]
        assert stopped.index > 0
        assert (audit.params, audit.seed, audit.repeat) == (stopped.params, stopped.seed, stopped.repeat)
    for job in rest:
        session.end(job, value=0.9 if job is audits[0] else 0.1)
    found = audit_of(session.ledger.records(), 0)
    assert (found.stopped, found.looked_at) == (40, 4)
    assert [(upset.number, best.value) for upset, best in found.upsets] == [(audits[0].number, 0.8)]
    again = open_session(arms=["lars"], search=search)
    drawn = {record.of for record in again.ledger.records() if record.phase == AUDIT}
    assert drawn == {session.ledger.record(audit.number).of for audit in audits}


def test_what_was_audited_stays_drawn(make_record: Callable[..., Any]) -> None:
    record = make_record(trials=12)
    plan = replace(record.plan, audit=0.3)
    trials = record.of_cell("lars/B1077", SEARCH)
    first = to_audit(plan, "lars/B1077", trials, [])
    stopped = [trial for trial in trials if trial.state == PRUNED]
    assert len(first) == math.ceil(0.3 * len(stopped)) < len(stopped)
    assert first != stopped[: len(first)]  # drawn, not the first that come
    left_out = next(trial for trial in stopped if trial not in first)
    audit = replace(left_out, phase=AUDIT, of=left_out.number)
    assert left_out in to_audit(plan, "lars/B1077", trials, [audit])
    assert len(to_audit(plan, "lars/B1077", trials, [audit])) == len(first)


def test_no_audit_without_a_stopped_trial(open_session: OpenSession) -> None:
    session = open_session(arms=["lars"], search={**ONE, "early_stopping": {**STOPPING, "audit": 1.0}})
    assert Counter(job.phase for job in session.run()) == {SEARCH: 4, CONFIRM: 1}
    assert session.queue.finished()


def test_spending_is_topped_up_to_the_costliest_search_of_the_block(open_session: OpenSession) -> None:
    search = {"trials": 6, "repeats": 1, "method": "random", "equalize": True, "early_stopping": STOPPING}
    session = open_session(search=search)  # 10 epochs are a full training
    for job in session.take(12):  # lars spends 60 epochs; sgd 4 * 1 + 2 * 10 = 24
        stopped = job.cell.arm == "sgd" and job.index < 4
        session.end(job, PRUNED if stopped else COMPLETE, 0.5, epochs=1 if stopped else 10)
    extra = []
    while (job := session.queue.next_job()) is not None:
        if job.phase == SEARCH:
            assert session.queue.next_job() is None or job.cell.arm == "sgd"
            extra.append(job)
        session.end(job, epochs=10)
    assert [(job.cell.arm, job.index) for job in extra] == [
        ("sgd", 6 + i) for i in range(4)
    ]  # at 54 half a training or more is missing
    assert {session.ledger.record(job.number).origin for job in extra} == {TOP_UP}
    assert session.queue.finished()
    # Trials that end at once could be added for ever: as many as the quota come on top, no more.
    other = open_session(name="other", search=search)
    count = Counter[str]()
    while (job := other.queue.next_job()) is not None:
        count[f"{job.cell.arm} {job.phase}"] += 1
        other.end(job, epochs=0 if job.cell.arm == "sgd" else 10)
    assert count["sgd search"] == 12


def test_a_grid_runs_each_point_once_also_when_interrupted_twice(open_session: OpenSession) -> None:
    changes: dict[str, object] = {
        "arms": ["lars"],
        "space": {"lars": GRID},
        "search": {"method": "grid", "repeats": 1},
    }
    first = open_session(**changes)
    assert first.plan.trials_per_search == 18
    cut = [first.take(1)[0] for _ in range(5)]
    first.end(cut[0])
    first.end(cut[3], FAILED, None)
    second = open_session(**changes)
    again = second.take(4)
    assert [job.params for job in again[:3]] == [cut[index].params for index in (1, 2, 4)]
    second.end(again[0])
    third = open_session(**changes)
    done = third.run()
    records = [record for record in third.ledger.records() if record.phase == SEARCH]
    points = Counter(tuple(sorted(record.params.items())) for record in records if record.state == COMPLETE)
    assert len(points) == 18
    assert set(points.values()) == {1}
    assert len(records) == 19  # the one that failed, and its replacement with the same point
    failed = next(record for record in records if record.state == FAILED)
    assert sum(record.params == failed.params for record in records) == 2
    assert {record.origin for record in records} == {LISTED}
    assert [job.phase for job in done].count(CONFIRM) == 1


def test_stopped_cells_start_nothing_further_until_they_go_on(open_session: OpenSession) -> None:
    session = open_session(search=ONE)
    lars, _ = session.take(2)
    assert session.queue.keep_closed(frozenset({"lars/B64"})) == {"lars/B64"}
    assert session.queue.keep_closed(frozenset({"lars/B64"})) == frozenset()
    assert {job.cell.arm for job in session.run()} == {"sgd"}
    assert not session.queue.finished()  # what runs in the stopped cell, and the first of sgd
    session.end(lars)
    assert session.queue.next_job() is None
    session.queue.keep_closed(frozenset())
    assert session.queue.next_job().cell.arm == "lars"


def test_trials_that_are_added_later_can_bring_another_winner(open_session: OpenSession) -> None:
    first = open_session(arms=["lars"], search={**ONE, "trials": 2})
    one, two = first.take(2)
    first.end(one, value=0.8)
    first.end(two, value=0.7)
    (confirm,) = first.take(1)
    first.end(confirm)
    more = open_session(arms=["lars"], search={**ONE, "trials": 3})
    assert not more.queue.finished()
    (third,) = more.take(1)
    more.end(third, value=0.9)
    (fresh,) = more.take(1)
    assert (fresh.phase, fresh.params) == (CONFIRM, third.params)
    assert fresh.seed != confirm.seed
    same = open_session(arms=["lars"], search={**ONE, "trials": 3}, confirm={"seeds": 2})
    assert same.take(2)[1].params == third.params
