"""`python -m study.run`: run a study, show its plan, or list what is shipped."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from study.command import Parser, complain, piped
from study.errors import StudyError
from study.names import DEFAULT_STUDY, INTERRUPTED_EXIT_CODE

_EPILOG = f"""examples:
  python -m study.run                               the embedded default study, {DEFAULT_STUDY}
  python -m study.run --dry-run                     its plan: blocks, cells, search spaces, budget
  python -m study.run {DEFAULT_STUDY} search.trials=12 search.repeats=5 name=digits-longer
  python -m study.run my-study.yaml --home /data/studies
  python -m study.run my-study.yaml --resume        go on after Ctrl-C or a crash
  python -m study.run my-study.yaml --resume --retry-failed        and run anew what failed
  python -m study.run --schema > study.schema.json  completion and checks while you edit
"""


def parser() -> Parser:
    """The command's arguments."""
    made = Parser(
        "python -m study.run",
        "Run a hyperparameter study of large-batch optimizers: search, confirm, report.",
        _EPILOG,
    )
    made.add_words()
    made.add_argument("--dry-run", action="store_true", help="show the plan and run nothing")
    made.add_argument("--list", action="store_true", help="list the shipped studies")
    made.add_argument("--schema", action="store_true", help="print the study file's JSON Schema, for editors")
    made.add_argument("--resume", action="store_true", help="go on with a study that was stopped")
    made.add_argument(
        "--retry-failed", action="store_true", help="with --resume: run a fresh trial for each one that failed"
    )
    made.add_argument("--address", metavar="ADDR", help="a running Ray cluster (default: RAY_ADDRESS, or this machine)")
    made.add_argument(
        "--storage", metavar="PLACE", help="checkpoints: a folder that every node sees, or a URL (default: the home)"
    )
    made.add_home()
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    from study.interrupts import handled

    try:
        with handled():
            return piped(lambda: _main(arguments))
    except StudyError as error:
        return complain(error)
    except KeyboardInterrupt:
        print("stopped before anything was begun", file=sys.stderr)
        return INTERRUPTED_EXIT_CODE


def _main(arguments: Sequence[str] | None) -> int:
    # Intermixed: `STUDY --dry-run key=value` is read as `STUDY key=value --dry-run` is.
    given = parser().parse_intermixed_args(arguments)
    # Everything heavier is imported where it is needed: help, lists and errors answer at once.
    from study import console
    from study.calibration import read_calibration, with_micro_batches
    from study.home import StudyHome, home_root
    from study.interrupts import say_if_ended_hard, stop_requested
    from study.load import load_study
    from study.plan import make_plan

    if given.list:
        print(console.study_list())
        return 0
    if given.schema:
        from study.schema import schema_text

        print(schema_text())
        return 0
    if given.retry_failed and not given.resume:
        raise StudyError("--retry-failed goes with --resume: a study that begins has nothing that failed")
    study, overrides = split_words(given.words)
    spec = load_study(study, overrides)
    place = StudyHome(home_root(given.home), spec.name)
    calibration = read_calibration(place, spec)
    plan = with_micro_batches(make_plan(spec), calibration.micro_batches if calibration else {})
    if given.dry_run:
        print(console.dry_run(spec, plan, calibration))
        return 0
    from study.session import run_study

    go_on = f"go on with: {console.resume_command(study, overrides, place, given.address)}"
    print(console.header(spec, plan, calibration), flush=True)
    say_if_ended_hard(f"stopped at once, what was recorded is kept in {place.folder}\n{go_on}")
    try:
        record = run_study(
            spec,
            home=given.home,
            address=given.address,
            storage=given.storage,
            resume=given.resume,
            retry_failed=given.retry_failed,
        )
    except KeyboardInterrupt:
        if not place.facts.exists():
            raise
        print(f"stopped; what was recorded is kept in {place.folder}\n{go_on}")
        return INTERRUPTED_EXIT_CODE
    if (not record.finished and record.ended_by is None) or stop_requested():
        ended = sum(trial.finished for trial in record.trials)
        most = max(plan.trials, len(record.trials))
        print(f"stopped: {ended} of {most} trials are done and kept in {place.folder}\n{go_on}")
        return INTERRUPTED_EXIT_CODE
    from study.analysis.summary import summarize
    from study.reporting.table import final_table

    print(final_table(summarize(record)))
    if plan.replay:
        print(console.replayed(record))
    print(console.closing(place, record, whole_tree=not (given.address or os.environ.get("RAY_ADDRESS"))))
    if record.ended_by:
        print(f"ended by {record.ended_by}; raise it and {go_on}")
    return 0


def split_words(words: Sequence[str]) -> tuple[str, list[str]]:
    """The study and the overrides among the command's words: the study stands first, and only it has no `=`.

    Raises:
        StudyError: a word that is neither.
    """
    if not words or "=" in words[0]:
        study, overrides = DEFAULT_STUDY, list(words)
    else:
        study, overrides = words[0], list(words[1:])
    for word in overrides:
        if "=" not in word:
            raise StudyError(f"'{word}' is neither the study nor an override; overrides read key.path=value")
    return study, overrides


def _exit(code: int) -> NoReturn:
    """End the process. After a stop, at once: what of Ray was cut off may hold up an orderly end of the interpreter."""
    if code == INTERRUPTED_EXIT_CODE:
        from study.interrupts import kill_children

        kill_children()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    _exit(main())
