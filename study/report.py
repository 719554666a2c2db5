"""`python -m study.report`: write a study's report anew from what its home holds."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from study.command import Parser, answer
from study.errors import StudyError
from study.names import DEFAULT_STUDY

_EPILOG = """examples:
  python -m study.report                         the default study in ./studies
  python -m study.report digits-longer --home /data/studies
  python -m study.report digits-longer --out report.html
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = Parser(
        "python -m study.report",
        "Write the HTML report of a study that was run, finished or not, and print its table.",
        _EPILOG,
    )
    parser.add_argument("name", nargs="?", default=DEFAULT_STUDY, metavar="STUDY", help="the study's name")
    parser.add_home()
    parser.add_argument("--out", metavar="FILE", help="where to write it (default: report.html in the study's folder)")
    return answer(parser, arguments, lambda given: _report(given.name, given.home, given.out))


def _report(name: str, home: str | None, out: str | None) -> int:
    from study.look import find, open_study

    place = find(name, home)
    record = open_study(place.folder)
    # matplotlib is imported for a study that is there only.
    from study.analysis.summary import summarize
    from study.analysis.traces import read_traces
    from study.reporting.html import write_report
    from study.reporting.table import final_table

    path = Path(out) if out else place.report
    try:
        write_report(record, path, read_traces(record, place))
    except OSError as error:
        raise StudyError(f"the report {path} cannot be written ({error.strerror}); choose another with --out") from None
    print(final_table(summarize(record)))
    print(f"report    {path.absolute()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
