"""`python -m study.doctor`: whether this machine can run a study, a line a finding."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from study.command import Parser, answer
from study.errors import StudyError
from study.names import DEFAULT_STUDY

if TYPE_CHECKING:
    from study.checks import Finding

_EPILOG = """examples:
  python -m study.doctor                                 for the default study
  python -m study.doctor my-study.yaml data.root=/data   for a study of your own
  python -m study.doctor my-study.yaml --address auto    on a Ray cluster that runs

exit code: 0 where the study can run, warnings included; 1 where a check fails; 2 for a wrong call
"""
_WIDTH_OF_HEAD = 16


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 1 where a check fails."""
    parser = Parser(
        "python -m study.doctor",
        "Check versions, devices, memory, disk, data, MLflow and Ray, and say how to mend what is wrong.",
        _EPILOG,
    )
    parser.add_argument(
        "words",
        nargs="*",
        metavar="STUDY key=value",
        help=f"the study that is to run, with overrides (default: {DEFAULT_STUDY})",
    )
    parser.add_argument(
        "--address", metavar="ADDR", help="a running Ray cluster (default: RAY_ADDRESS, or this machine)"
    )
    parser.add_home()
    return answer(parser, arguments, lambda given: _examine(given.words, given.home, given.address))


def _examine(words: Sequence[str], home: str | None, address: str | None) -> int:
    from study import checks
    from study.home import StudyHome, home_root
    from study.load import load_study
    from study.plan import make_plan
    from study.run import split_words

    spec = load_study(*split_words(words))
    place = StudyHome(home_root(home), spec.name)
    worst = False
    for finding in checks.run_checks(
        [
            ("packages", checks.python_and_packages),
            ("devices", checks.devices),
            ("memory", checks.memory),
            ("home", lambda: checks.home_folder(place)),
            ("data", lambda: checks.data_sets(spec)),
            ("mlflow", lambda: checks.mlflow_store(place.mlflow_uri)),
            ("ray", lambda: checks.ray_cluster(spec, address)),
        ]
    ):
        print(finding_text(finding), flush=True)
        worst = worst or finding.level == checks.FAIL
    try:
        make_plan(spec)
    except StudyError as error:
        print(finding_text(checks.Finding(checks.FAIL, "study", str(error))))
        worst = True
    print("something has to be mended first" if worst else f"ready: python -m study.run {' '.join(words)}".rstrip())
    return int(worst)


def finding_text(finding: Finding) -> str:
    """`warn  memory    2.1 GiB of 8.0 GiB free; end other programs`, wrapped."""
    from study.text import WIDTH

    text = finding.text + (f"; {finding.remedy}" if finding.remedy else "")
    head = f"{finding.level:<6}{finding.what:<10}"
    lines = textwrap.wrap(
        text, WIDTH, initial_indent=head, subsequent_indent=" " * _WIDTH_OF_HEAD, break_long_words=False
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
