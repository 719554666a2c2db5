"""`python -m study.clean`: give back the disk space of a study that nothing drives."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from study.command import Parser, answer
from study.errors import StudyError

_EPILOG = """examples:
  python -m study.clean digits-warmup --dry-run      what would go, and how much that is
  python -m study.clean digits-warmup                all checkpoints but each winner's last one
                                                     and what --resume needs
  python -m study.clean digits-warmup --all --yes    ledger, trials and report (not MLflow's runs)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = Parser("python -m study.clean", "Delete what a study no longer needs; refused while it runs.", _EPILOG)
    parser.add_study()
    parser.add_home()
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--checkpoints", action="store_true", help="checkpoints that nothing needs (the default)")
    what.add_argument("--all", action="store_true", help="the study's whole folder; --yes, or you are asked")
    parser.add_argument("--dry-run", action="store_true", help="say what would go and delete nothing")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    return answer(parser, arguments, lambda given: _clean(given.study, given.home, given.all, given.dry_run, given.yes))


def _clean(study: str, home: str | None, everything: bool, dry: bool, yes: bool) -> int:
    from study.look import find

    place = find(study, home)
    from study.retention import checkpoints_of, delete_from_database, remove, unneeded, weigh
    from study.storage import is_url
    from study.text import size

    elsewhere = checkpoints_of(place)
    with place.locked():
        paths = [place.folder] if everything else unneeded(place)
        files, count = weigh(paths)
        if dry:
            for path in paths:
                print(path)
            print(f"would free {size(count)} in {files:,} files; nothing was deleted")
            return 0
        if everything and not yes:
            _ask(f"delete the study {place.name} with its ledger and results, {size(count)} in {place.folder}?")
        gone = delete_from_database(place) if everything else 0
        remove(paths)
    print(f"freed {size(count)} in {files:,} files")
    if gone:
        print(f"deleted {gone} Optuna studies from the database")
    if is_url(elsewhere):
        print(f"what lies below {elsewhere} is left alone; delete it with that store's own tools")
    return 0


def _ask(question: str) -> None:
    if not sys.stdin.isatty():
        raise StudyError("--all deletes results, and there is no terminal to ask; add --yes")
    if input(f"{question} [y/N] ").strip().lower() not in ("y", "yes"):
        raise StudyError("nothing was deleted")


if __name__ == "__main__":
    sys.exit(main())
