"""`python -m study.report`: write a study's report anew from what its home holds."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from study.errors import StudyError
from study.names import DEFAULT_STUDY

_EPILOG = """examples:
  python -m study.report                         the default study in ./studies
  python -m study.report digits-longer --home /data/studies
  python -m study.report digits-longer --out report.html
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m study.report",
        description="Write the HTML report of a study that was run, finished or not, and print its table.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="?", default=DEFAULT_STUDY, metavar="STUDY", help="the study's name")
    parser.add_argument("--home", metavar="DIR", help="folder of all studies (default: STUDY_HOME, or ./studies)")
    parser.add_argument("--out", metavar="FILE", help="where to write it (default: report.html in the study's folder)")
    given = parser.parse_args(arguments)
    try:
        return _report(given)
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def _report(given: argparse.Namespace) -> int:
    from study.home import StudyHome, home_root

    place = StudyHome(home_root(given.home), given.name)
    if not place.facts.exists():
        raise StudyError(f"no study '{given.name}' was run in {place.root}; run it first, or name its --home")
    from study.analysis.summary import summarize
    from study.reporting.html import write_report
    from study.reporting.table import final_table
    from study.session import load_record

    record = load_record(place)
    path = Path(given.out) if given.out else place.report
    try:
        write_report(record, path)
    except OSError as error:
        raise StudyError(f"the report {path} cannot be written ({error.strerror}); choose another with --out") from None
    print(final_table(summarize(record)))
    print(f"report    {path.absolute()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
