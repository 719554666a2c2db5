"""What runs next, over a real ledger."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from study.records import COMPLETE, CONFIRM, DIVERGED, FAILED, PRUNED, RUNNING, SEARCH, TrialRecord
from study.selection import winner
from study.work import startable

Session = Any  # the fixture's: a queue and its ledger, as one session has them


def test_searches_take_turns(open_session: Callable[..., Session]) -> None:
    session = open_session()
    keys = [job.key for job in session.take(12)]
    turn = ["lars/B64/r0", "sgd/B64/r0", "lars/B64/r1", "sgd/B64/r1"]
    assert keys == [f"{search}/t{index}" for index in range(3) for search in turn]
    assert session.queue.next_job() is None  # the quotas are out, and nothing has ended
    assert not session.queue.finished()


def test_winners_are_confirmed_as_soon_as_their_search_is_done(open_session: Callable[..., Session]) -> None:
    session = open_session(confirm={"seeds": 2}, search={"trials": 2, "repeats": 1, "method": "random"})
    lars0, sgd0, lars1, sgd1 = session.take(4)
    session.end(lars0, value=0.8)
    assert session.queue.next_job() is None
    session.end(lars1, value=0.7)
    confirms = session.take(2)
    assert [job.key for job in confirms] == ["lars/B64/r0/c0", "lars/B64/r0/c1"]
    assert all(job.params == lars0.params for job in confirms)
    assert len({job.seed for job in (lars0, lars1, *confirms)}) == 4
    session.end(sgd0)
    session.end(sgd1, PRUNED, 0.9)
    (following,) = session.take(1)
    assert (following.key, following.params) == ("sgd/B64/r0/c0", sgd0.params)


def test_confirm_runs_go_before_search_trials(open_session: Callable[..., Session]) -> None:
    session = open_session(search={"trials": 1, "repeats": 2, "method": "random"})
    (first,) = session.take(1)
    session.end(first)
    assert [job.key for job in session.take(2)] == ["lars/B64/r0/c0", "sgd/B64/r0/t0"]


def test_a_study_runs_its_plan_exactly(open_session: Callable[..., Session]) -> None:
    session = open_session(confirm={"seeds": 2})
    jobs = session.run()
    assert len(jobs) == session.plan.trials == 2 * 2 * (3 + 2)
    assert len({job.key for job in jobs}) == len(jobs)
    assert session.queue.finished()


def test_a_failed_trial_is_replaced_once_and_its_replacement_not(open_session: Callable[..., Session]) -> None:
    session = open_session(arms=["lars"], search={"trials": 2, "repeats": 1, "method": "random"})
    one, two = session.take(2)
    session.end(one, FAILED, None)
    (replacement,) = session.take(1)
    assert replacement.key == "lars/B64/r0/t2"
    session.end(two)
    assert session.queue.next_job() is None
    session.end(replacement, FAILED, None)
    (confirm,) = session.take(1)
    assert (confirm.phase, confirm.params) == (CONFIRM, two.params)
    session.end(confirm, FAILED, None)
    assert not session.queue.finished()
    (again,) = session.take(1)
    assert again.key == "lars/B64/r0/c1"
    assert not session.queue.finished()
    session.end(again, FAILED, None)
    assert session.queue.next_job() is None
    assert session.queue.finished()


def test_a_search_without_any_result_is_not_confirmed(open_session: Callable[..., Session]) -> None:
    session = open_session(arms=["lars"], search={"trials": 2, "repeats": 1, "method": "random"})
    for _ in range(4):
        session.end(session.take(1)[0], FAILED, None)
    assert session.queue.next_job() is None
    assert session.queue.finished()


def test_finished_waits_for_what_is_under_way(open_session: Callable[..., Session]) -> None:
    session = open_session(arms=["lars"], search={"trials": 1, "repeats": 1, "method": "random"})
    (trial,) = session.take(1)
    assert not session.queue.finished()
    session.end(trial)
    (confirm,) = session.take(1)
    assert session.queue.next_job() is None
    assert not session.queue.finished()  # it may yet fail, and want its replacement
    session.end(confirm)
    assert session.queue.finished()


def test_a_resumed_study_first_goes_on_with_what_was_cut_off(open_session: Callable[..., Session]) -> None:
    first = open_session()
    jobs = first.take(7)
    first.end(jobs[0])
    first.end(jobs[3])
    second = open_session()
    assert not second.queue.finished()
    again = second.take(5)
    assert again == [jobs[index] for index in (1, 2, 4, 5, 6)]
    assert second.take(1)[0].key == "sgd/B64/r1/t1"  # then where the rounds had come to

    third = open_session()
    rest = third.run()
    assert len(rest) == third.plan.trials - 2
    assert third.queue.finished()
    assert open_session().queue.finished()


def _trial(index: int, state: str, value: float | None) -> TrialRecord:
    return TrialRecord(index, "c", "lars", "b", 0, SEARCH, index, state, {}, 1, 3, value, {}, {}, None, 1.0)


@pytest.mark.parametrize(
    ("trials", "best"),
    [
        ([(COMPLETE, 0.5), (COMPLETE, 0.7), (COMPLETE, 0.6)], 1),
        ([(COMPLETE, 0.5), (COMPLETE, 0.7), (COMPLETE, 0.7)], 1),  # the earlier of equals
        ([(COMPLETE, 0.5), (PRUNED, 0.9), (RUNNING, None)], 0),  # only what trained to the end
        ([(DIVERGED, 0.1), (COMPLETE, 0.05), (FAILED, None)], 1),
        ([(FAILED, None), (DIVERGED, 0.1), (DIVERGED, 0.1)], 1),  # that the arm diverges is its result
        ([(COMPLETE, 0.0)], 0),
        ([(FAILED, None), (FAILED, None)], None),
        ([], None),
    ],
)
def test_winner(trials: list[tuple[str, float | None]], best: int | None) -> None:
    records = [_trial(index, state, value) for index, (state, value) in enumerate(trials)]
    found = winner(records)
    assert (found.index if found else None) == best


def test_the_last_epoch_decides(open_session: Callable[..., Session]) -> None:
    session = open_session(arms=["lars"], search={"trials": 2, "repeats": 1, "method": "random"})
    early, late = session.take(2)
    session.ledger.report(early, {1: 0.99, 2: 0.3})
    session.ledger.report(late, {1: 0.1, 2: 0.4})
    session.end(early, value=0.3)
    session.end(late, value=0.4)
    assert session.take(1)[0].params == late.params


def test_startable() -> None:
    failed = _trial(0, FAILED, None)
    done = replace(failed, index=1, state=COMPLETE)
    assert startable([], 3) == 3
    assert startable([done], 3) == 2
    assert startable([failed, done], 3) == 2
    assert startable([failed, done, replace(done, index=2), replace(failed, index=3)], 3) == 0
