"""What runs next where the user has a say: stopped cells, failed trials run anew, one trial of another study."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from study.records import COMPLETE, CONFIRM, DIVERGED, FAILED, SEARCH
from study.search.ledger import Ledger
from study.work import WorkQueue

Session = Any  # the fixture's: a queue and its ledger, as one session has them
OPEN: frozenset[str] = frozenset()


def keys(session: Session) -> list[str]:
    """The keys of all that is left, run one at a time."""
    return [job.key for job in session.run()]


def test_a_closed_cell_starts_nothing_and_the_others_go_on(open_session: Callable[..., Session]) -> None:
    session = open_session()
    lars, sgd = session.take(2)
    assert session.queue.keep_closed(frozenset({"lars/B64"})) == {"lars/B64"}
    assert session.queue.keep_closed(frozenset({"lars/B64"})) == OPEN
    session.end(lars)
    session.end(sgd)
    left = keys(session)
    assert left
    assert all(key.startswith("sgd/") for key in left)
    assert len(left) == 2 * (3 + 1) - 1
    assert session.queue.finished()


def test_what_runs_in_a_closed_cell_goes_on(open_session: Callable[..., Session]) -> None:
    session = open_session(arms=["lars"])
    (running,) = session.take(1)
    session.queue.keep_closed(frozenset({"lars/B64"}))
    assert session.queue.next_job() is None
    assert not session.queue.finished()
    session.end(running)
    assert session.queue.next_job() is None
    assert session.queue.finished()


def test_a_closed_cell_has_no_confirm_runs(open_session: Callable[..., Session]) -> None:
    session = open_session(arms=["lars"], search={"trials": 2, "repeats": 1, "method": "random"})
    for job in session.take(2):
        session.end(job)
    session.queue.keep_closed(frozenset({"lars/B64"}))
    assert session.queue.next_job() is None
    assert session.queue.finished()


def test_a_cell_is_opened_again(open_session: Callable[..., Session]) -> None:
    session = open_session()
    session.queue.keep_closed(frozenset({"lars/B64", "sgd/B64"}))
    assert session.queue.next_job() is None
    assert session.queue.finished()
    assert session.queue.keep_closed(frozenset({"sgd/B64"})) == OPEN
    assert not session.queue.finished()
    assert len(keys(session)) == 2 * (3 + 1)
    session.queue.keep_closed(OPEN)
    assert len(keys(session)) == 2 * (3 + 1)


def test_a_resumed_session_keeps_cells_closed(open_session: Callable[..., Session]) -> None:
    session = open_session()
    session.take(2)
    later = open_session()
    queue = WorkQueue(later.plan, later.ledger, closed=("lars/B64",))
    taken = []
    while (job := queue.next_job()) is not None:
        taken.append(job.key)
        later.end(job)
    assert taken[:2] == ["lars/B64/r0/t0", "sgd/B64/r0/t0"]  # cut off, not started anew
    assert all(key.startswith("sgd/") for key in taken[2:])
    assert queue.finished()


@pytest.fixture
def failing(open_session: Callable[..., Session]) -> Session:
    """One search of three: trial 1 failed and its replacement too, trial 2 failed and was replaced; confirmed."""
    session = open_session(arms=["lars"], search={"trials": 3, "repeats": 1, "method": "random"})
    t0, t1, t2 = session.take(3)
    session.end(t0, value=0.5)
    session.end(t1, FAILED)
    session.end(t2, FAILED)
    t3, t4 = session.take(2)
    session.end(t3, FAILED)
    session.end(t4, value=0.4)
    (confirm,) = session.take(1)
    assert (confirm.phase, confirm.params) == (CONFIRM, t0.params)
    session.end(confirm)
    assert session.queue.finished()
    return session


def test_what_failed_is_run_anew(failing: Session, open_session: Callable[..., Session]) -> None:
    session = resumed(failing, open_session)
    assert session.queue.finished()
    session = resumed(failing, open_session, forgive=True)
    assert not session.queue.finished()
    (fresh,) = session.take(1)
    assert (fresh.key, fresh.phase) == ("lars/B64/r0/t5", SEARCH)
    assert fresh.params not in [record.params for record in session.ledger.records() if record.number != fresh.number]
    session.end(fresh, value=0.45)
    assert session.queue.next_job() is None  # the winner is the same, and confirmed
    assert session.queue.finished()
    assert sum(record.state == COMPLETE for record in session.ledger.of_search("lars/B64", 0, SEARCH)) == 3


def test_a_better_winner_is_confirmed(failing: Session, open_session: Callable[..., Session]) -> None:
    session = resumed(failing, open_session, forgive=True)
    (fresh,) = session.take(1)
    session.end(fresh, value=0.9)
    (confirm,) = session.take(1)
    assert (confirm.phase, confirm.params) == (CONFIRM, fresh.params)


def test_a_fresh_trial_that_fails_is_replaced_once(failing: Session, open_session: Callable[..., Session]) -> None:
    session = resumed(failing, open_session, forgive=True)
    for _ in range(2):
        (job,) = session.take(1)
        session.end(job, FAILED)
    assert session.queue.next_job() is None
    assert session.queue.finished()


def test_failed_confirm_runs_are_run_anew(open_session: Callable[..., Session]) -> None:
    session = open_session(arms=["lars"], search={"trials": 1, "repeats": 1, "method": "random"})
    (trial,) = session.take(1)
    session.end(trial)
    seeds = set()
    for _ in range(2):
        (confirm,) = session.take(1)
        seeds.add(confirm.seed)
        session.end(confirm, FAILED)
    assert session.queue.finished()
    session = resumed(session, open_session, forgive=True)
    (fresh,) = session.take(1)
    assert (fresh.phase, fresh.params) == (CONFIRM, trial.params)
    assert fresh.seed not in seeds
    session.end(fresh)
    assert session.queue.finished()


def test_where_nothing_failed_nothing_is_run(open_session: Callable[..., Session]) -> None:
    session = open_session()
    for job in session.take(4):
        session.end(job, DIVERGED)
    session.run()
    session = resumed(session, open_session, forgive=True)
    assert session.queue.next_job() is None
    assert session.queue.finished()


def resumed(session: Session, open_session: Callable[..., Session], *, forgive: bool = False) -> Session:
    """A later session on the same ledger."""
    spec = session.spec
    later = open_session(arms=list(spec.arms), search=spec.search.model_dump(exclude_defaults=True))
    if forgive:
        later.ledger.forgive_failures()
        later.queue = WorkQueue(later.plan, later.ledger)
    assert isinstance(later.ledger, Ledger)
    return later
