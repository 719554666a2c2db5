"""`python -m study.export`: one trial as a study file that runs it once more, exactly."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from study.command import Parser, answer
from study.errors import StudyError

_EPILOG = """examples:
  python -m study.export digits-warmup --trial 12 -o trial-12.yaml
  python -m study.export digits-warmup --best              the best search value, to the screen
  python -m study.export digits-warmup --best --cell tvlars/B1077 -o best-tvlars.yaml
  python -m study.run trial-12.yaml                        the same result, bit for bit on a CPU
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = Parser(
        "python -m study.export",
        "Write one trial of a study as a study file that python -m study.run runs to the same result.",
        _EPILOG,
    )
    parser.add_study()
    parser.add_home()
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--trial", metavar="N", help="a trial or confirm run, by its number or its key")
    which.add_argument("--best", action="store_true", help="the search trial with the best value at its last epoch")
    parser.add_argument("--cell", metavar="NAME", help="with --best: of this cell alone")
    parser.add_argument("-o", "--out", metavar="FILE", help="where to write it (default: the screen)")
    return answer(parser, arguments, lambda given: _export(given.study, given.home, given.trial, given.cell, given.out))


def _export(study: str, home: str | None, trial: str | None, cell: str | None, out: str | None) -> int:
    from study.look import find, find_trial, open_study

    if trial is not None and cell is not None:
        raise StudyError("--cell goes with --best; a trial's number says its cell")
    place = find(study, home)
    from study.replay import best_trial, replay_file

    record = open_study(place.folder)
    text = replay_file(record, find_trial(record, trial) if trial is not None else best_trial(record, cell))
    if out is None:
        sys.stdout.write(text)
        return 0
    path = Path(out)
    if path.suffix not in (".yaml", ".yml"):
        raise StudyError(f"a study file's name ends in .yaml, but got {out}")
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StudyError(f"{path} cannot be written ({error.strerror}); choose another with -o") from None
    print(f"wrote {path}; run it with: python -m study.run {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
