"""`python -m study.stop`: end a running study in order, or one trial or cell of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from study.command import Parser, answer
from study.errors import StudyError

if TYPE_CHECKING:
    from study.driver import Driver
    from study.home import StudyHome

_EPILOG = """examples:
  python -m study.stop digits-warmup                      as Ctrl-C does: --resume goes on
  python -m study.stop digits-warmup --trial 12           end one trial; it counts as stopped early
  python -m study.stop digits-warmup --cell lars/B1077    start no further trials of a cell
  python -m study.stop digits-warmup --cell lars/B1077 --undo
"""
LONGEST_WAIT_SECONDS: Final = 30.0  # the driver itself ends everything after 8


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = Parser(
        "python -m study.stop",
        "Stop a study that runs on this host, in order; or one of its trials, or what is to come of a cell.",
        _EPILOG,
    )
    parser.add_study()
    parser.add_home()
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--trial", metavar="N", help="a running trial, by its number or its key")
    what.add_argument("--cell", metavar="NAME", help="a cell: its running trials end as they would, no other starts")
    parser.add_argument("--undo", action="store_true", help="with --cell: let a stopped cell go on")
    return answer(
        parser, arguments, lambda given: _stop(given.study, given.home, given.trial, given.cell, undo=given.undo)
    )


def _stop(study: str, home: str | None, trial: str | None, cell: str | None, *, undo: bool) -> int:
    from study.driver import driver_of
    from study.look import find

    if undo and cell is None:
        raise StudyError(
            "--undo goes with --cell: a trial that was stopped has ended; add --cell NAME, or leave it out"
        )
    place = find(study, home)
    driver = driver_of(place)
    if cell is not None:
        print(_stop_cell(place, cell, driver, undo=undo))
        return 0
    if driver is None:
        raise StudyError(f"nothing drives the study '{place.name}', so nothing is to be stopped (python -m study.show)")
    if trial is not None:
        print(_stop_trial(place, trial))
        return 0
    return _stop_study(place, driver)


def _stop_study(place: StudyHome, driver: Driver) -> int:
    from study.driver import driver_of

    driver.interrupt()
    deadline = time.monotonic() + LONGEST_WAIT_SECONDS
    while driver_of(place) == driver:
        if time.monotonic() > deadline:
            raise StudyError(
                f"{driver} was asked to stop but still holds the study; wait for it, or end it: kill -9 {driver.pid}"
            )
        time.sleep(0.1)
    print(f"stopped {place.name} ({driver}); what was recorded is kept in {place.folder}")
    print("go on with it: the command that began it, with --resume")
    return 0


def _stop_trial(place: StudyHome, given: str) -> str:
    from study.control import Control
    from study.look import find_trial, job_of, open_study
    from study.records import CONFIRM

    record = open_study(place.folder)
    trial = find_trial(record, given)
    key = job_of(record, trial).key
    if trial.finished:
        raise StudyError(f"trial {trial.number} ({key}) has ended already: {trial.state} after {trial.epochs} epochs")
    if trial.phase == CONFIRM:
        raise StudyError(
            f"trial {trial.number} ({key}) is a confirm run, and those train to the end or not at all; "
            "stop its cell, or the study"
        )
    Control(place.control).stop_trial(key)
    return f"trial {trial.number} ({key}) ends with its next report and counts as stopped early"


def _stop_cell(place: StudyHome, name: str, driver: Driver | None, *, undo: bool) -> str:
    from study.control import Control
    from study.errors import nearest, shown
    from study.load import validate
    from study.plan import make_plan

    facts = place.read_facts() or {}
    names = [cell.name for cell in make_plan(validate(facts["spec"], where=str(place.facts))).cells]
    if name not in names:
        raise StudyError(f"the study '{place.name}' has no cell {shown(name)}; {nearest(name, names)}")
    control = Control(place.control)
    if undo and name not in control.requests().cells:
        raise StudyError(f"the cell {name} was not stopped; leave out --undo to stop it")
    when = "from now on" if driver else "when the study is resumed"
    if undo:
        control.go_on_with_cell(name)
        return f"{name} goes on, {when}"
    control.stop_cell(name)
    return f"{name} starts no further trials, {when}; claims on it are inconclusive (--undo lets it go on)"


if __name__ == "__main__":
    sys.exit(main())
