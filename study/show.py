"""`python -m study.show`: where a study stands, also from another terminal while it runs; writes nothing."""

from __future__ import annotations

import argparse
import datetime
import math
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from study.command import Parser, answer
from study.errors import StudyError

if TYPE_CHECKING:
    from study.driver import Driver
    from study.home import StudyHome
    from study.overview import CellOverview
    from study.records import StudyRecord

_EPILOG = """examples:
  python -m study.show                              the studies in ./studies
  python -m study.show digits-warmup                state, trials and spend of each cell
  python -m study.show digits-warmup --watch        again every 2 seconds while the study runs
  python -m study.show digits-warmup --trial 12     a trial: parameters, curve, files, traceback
  python -m study.show digits-warmup --trial lars/B1077/r0/t3 --home /data/studies
"""
_HEADS = (
    ("", "", "search", "confirm", "run-", "stop-", "div-", "", "best", "epochs", "device-hours"),
    ("cell", "state", "done of", "done of", "ning", "ped", "erged", "failed", "value", "of at most", "of at most"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = Parser(
        "python -m study.show",
        "Show where a study stands: per cell state, trials, best search value, spend and what is left.",
        _EPILOG,
    )
    parser.add_study(nargs="?")
    parser.add_home()
    parser.add_argument("--trial", metavar="N", help="one trial, by its number or its key")
    parser.add_argument(
        "--watch",
        nargs="?",
        type=_seconds,
        const=2.0,
        metavar="SECONDS",
        help="show it again every so many seconds (default: 2) until nothing drives the study",
    )
    return answer(parser, arguments, lambda given: _show(given.study, given.home, given.trial, given.watch))


def _show(study: str | None, home: str | None, trial: str | None, every_seconds: float | None) -> int:
    from study.driver import driver_of
    from study.look import find

    if study is None:
        if trial is not None:
            raise StudyError("--trial needs the study that the trial is of: python -m study.show STUDY --trial N")
        print(_studies(home))
        return 0
    place = find(study, home)
    live = every_seconds is not None and sys.stdout.isatty()
    while True:
        driver = driver_of(place)
        text = _text(place, driver, trial)
        print(f"\x1b[H\x1b[J{text}" if live else text, flush=True)
        if every_seconds is None or driver is None:
            return 0
        time.sleep(every_seconds)
        if not live:
            print(flush=True)


def _text(place: StudyHome, driver: Driver | None, trial: str | None) -> str:
    from study.look import find_trial, open_study
    from study.text import bars_of
    from study.trial_text import trial_text

    record = open_study(place.folder)
    if trial is None:
        return study_text(record, place, driver)
    found = find_trial(record, trial)
    return trial_text(record, place, found, driven=driver is not None, ascii_only=bars_of(sys.stdout))


def study_text(record: StudyRecord, place: StudyHome, driver: Driver | None) -> str:
    """The whole study: its state, what was spent, a row a cell, and what to do next."""
    from study.overview import overview
    from study.progress import duration
    from study.text import aligned, hours

    found = overview(record)
    state = f"running ({driver})" if driver else "finished" if record.finished else "stopped"
    counts = [f"{found.settled} of {found.trials_planned} trials done"]
    if found.running:
        counts.append(f"{found.running} {'running' if driver else 'cut off'}")
    counts += [
        f"{found.count(what)} {word}"
        for what, word in (("pruned", "stopped early"), ("diverged", "diverged"), ("failed", "failed"))
        if found.count(what)
    ]
    planned = found.device_seconds_planned
    spent = [
        f"{found.epochs:,} of at most {found.epochs_planned:,} epochs",
        f"{hours(found.device_seconds)} device-hours"
        + (f" of at most about {hours(planned)}" if planned is not None else ""),
    ]
    if driver and found.seconds_left is not None:
        spent.append(f"about {duration(found.seconds_left)} left")
    lines = [
        f"{record.name}: {state}, begun {record.started_at}, last activity {_ago(place)}",
        f"  {', '.join(counts)}",
        f"  {', '.join(spent)}",
        *aligned([*_HEADS, *(_row(cell, driven=driver is not None) for cell in found.cells)], left=(0, 1), gap=" "),
    ]
    return "\n".join([*lines, *_next_steps(record, place, driver)])


def _row(cell: CellOverview, *, driven: bool) -> tuple[str, ...]:
    from study.overview import RUNS, WAITING
    from study.text import hours

    planned = cell.device_seconds_planned
    return (
        cell.name,
        cell.state if driven or cell.state not in RUNS.values() else WAITING,
        f"{cell.searched}/{cell.search_quota}",
        f"{cell.confirmed}/{cell.confirm_quota}",
        *(str(number) if number else "-" for number in (cell.running, cell.pruned, cell.diverged, cell.failed)),
        "-" if cell.best is None else f"{cell.best:.4f}",
        f"{cell.epochs:,}/{cell.epochs_planned:,}",
        f"{hours(cell.device_seconds)}/{'?' if planned is None else hours(planned)}",
    )


def _next_steps(record: StudyRecord, place: StudyHome, driver: Driver | None) -> list[str]:
    from study.records import FAILED

    failed = [trial.number for trial in record.trials if trial.state == FAILED]
    lines = []
    if failed:
        lines.append(f"why trial {failed[-1]} failed: python -m study.show {record.name} --trial {failed[-1]}")
    if record.stopped_cells:
        lines.append(f"stopped by the user: {', '.join(record.stopped_cells)}")
    if record.added:
        lines.append(f"added after the lock: {'; '.join(record.added)}")
    if record.ended_by and driver is None:
        lines.append(f"ended by {record.ended_by}; raise it and --resume to go on")
    elif driver is None and not record.finished:
        lines.append("go on with it: the command that began it, with --resume")
    if place.report.exists():
        lines.append(f"report    {place.report}")
    return lines


def _studies(home: str | None) -> str:
    from study.driver import driver_of
    from study.home import home_root
    from study.look import begun
    from study.text import aligned

    root = home_root(home)
    places = begun(root)
    if not places:
        raise StudyError(f"no study was begun in {root}; --home says where studies are, python -m study.run begins one")
    rows = [("study", "state", "begun", "last activity")]
    for place in places:
        try:
            facts = place.read_facts() or {}
        except StudyError:
            rows.append((place.name, "unreadable", "", _ago(place)))
            continue
        driver = driver_of(place)
        state = f"running ({driver})" if driver else "finished" if facts.get("reported") else "stopped"
        rows.append((place.name, state, str(facts.get("started_at", "")), _ago(place)))
    return "\n".join(aligned(rows, left=(0, 1, 2, 3)))


def _ago(place: StudyHome) -> str:
    """Since when nothing was written: every report of a trial is."""
    times = []
    for path in (place.facts, place.ledger, *place.folder.glob("trials/*/reports.jsonl")):
        try:
            times.append(path.stat().st_mtime)
        except OSError:
            continue
    if not times:
        return "unknown"
    from study.progress import duration

    seconds = max(time.time() - max(times), 0.0)
    if seconds < 86_400:
        return f"{duration(seconds)} ago"
    return datetime.datetime.fromtimestamp(max(times)).astimezone().isoformat(timespec="seconds")


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.1 <= value <= 86_400:
        raise argparse.ArgumentTypeError(f"must be seconds from 0.1 to 86400, but got {text!r}")
    return value


if __name__ == "__main__":
    sys.exit(main())
