"""What every command of the study shares: bad input of any kind is one sentence on stderr and exit code 2."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn

from study.errors import StudyError


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are a `StudyError`, as those about a study file are."""

    def __init__(self, prog: str, description: str, epilog: str) -> None:
        super().__init__(
            prog=prog, description=description, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
        )

    def error(self, message: str) -> NoReturn:
        raise StudyError(f"{message}; see {self.prog} --help")

    def add_home(self) -> None:
        """The option that says where all studies live."""
        self.add_argument("--home", metavar="DIR", help="folder of all studies (default: STUDY_HOME, or ./studies)")


def complain(error: StudyError) -> int:
    """Print the error's one sentence; returns the exit code."""
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    return error.exit_code
