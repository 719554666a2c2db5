"""`python -m study.calibrate`: a few steps of every cell say what the study will cost, and fix its micro-batches."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from study.command import Parser, answer
from study.errors import StudyError

_EPILOG = """examples:
  python -m study.calibrate                             the default study, on this machine
  python -m study.calibrate my-study.yaml train.batch_size=[4096,16384] --device cuda

Run it on the kind of machine that the study is for, with the same study file and overrides: a study that begins
afterwards with train.micro_batch_size: auto takes its micro-batches from here.
"""


def parser() -> Parser:
    """The command's arguments."""
    made = Parser(
        "python -m study.calibrate",
        "Measure memory, epoch seconds and images/s of every cell, and choose each block's micro-batch.",
        _EPILOG,
    )
    made.add_words()
    made.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to train (default: auto)"
    )
    made.add_argument(
        "--seconds",
        type=float,
        default=5.0,
        metavar="S",
        help="how long to time each cell, after its start (default: 5)",
    )
    made.add_home()
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return answer(parser(), arguments, _calibrate)


def _calibrate(given: argparse.Namespace) -> int:
    from study.calibration import calibrate, write_calibration
    from study.datasets import require_data
    from study.home import StudyHome, home_root
    from study.load import load_study
    from study.plan import make_plan
    from study.reporting.costs import cost_table
    from study.run import split_words

    if not given.seconds > 0:
        raise StudyError(f"--seconds must be a number above 0, but got {given.seconds:g}")
    study, overrides = split_words(given.words)
    spec = load_study(study, overrides)
    plan = make_plan(spec)
    require_data(spec)
    place = StudyHome(home_root(given.home), spec.name)
    place.create()
    begun = place.read_facts() is not None
    found = calibrate(spec, plan, seconds=given.seconds, device=given.device, say=lambda text: print(text, flush=True))
    write_calibration(place, spec, found)
    print(cost_table(found))
    if begun:
        print(f"the study '{spec.name}' has begun already: it keeps the micro-batches that it began with")
    print(f"kept in   {place.calibration}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
