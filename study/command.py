"""What every command of the study shares: bad input of any kind is one sentence on stderr and exit code 2."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from study.errors import StudyError
from study.names import DEFAULT_STUDY, INTERRUPTED_EXIT_CODE


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are a `StudyError`, as those about a study file are."""

    def __init__(self, prog: str, description: str, epilog: str) -> None:
        super().__init__(
            prog=prog, description=description, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
        )

    def error(self, message: str) -> NoReturn:
        raise StudyError(f"{message}; see {self.prog} --help")

    def add_study(self, nargs: str | None = None) -> None:
        """The study that was begun, as every command that looks at one takes it."""
        self.add_argument(
            "study", nargs=nargs, metavar="STUDY", help="a study that was begun: its name, its study file or its folder"
        )

    def add_words(self) -> None:
        """A study that is to be begun, and overrides of its keys."""
        self.add_argument(
            "words",
            nargs="*",
            metavar="STUDY key=value",
            help=f"a shipped study's name or a YAML file (default: {DEFAULT_STUDY}), then overrides of its keys",
        )

    def add_home(self) -> None:
        """The option that says where all studies live."""
        self.add_argument("--home", metavar="DIR", help="folder of all studies (default: STUDY_HOME, or ./studies)")


def answer(parser: Parser, arguments: Sequence[str] | None, act: Callable[[argparse.Namespace], int]) -> int:
    """Parse and act; a reader that closes the pipe and Ctrl-C end the command without a traceback."""
    try:
        return piped(lambda: act(parser.parse_intermixed_args(arguments)))
    except StudyError as error:
        return complain(error)
    except KeyboardInterrupt:
        return INTERRUPTED_EXIT_CODE


def piped(act: Callable[[], int]) -> int:
    """Act; a reader that closes the pipe ends the command without a traceback."""
    try:
        code = act()
        sys.stdout.flush()
    except BrokenPipeError:
        # What Python still holds for the closed pipe would raise once more at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def complain(error: StudyError) -> int:
    """Print the error's one sentence; returns the exit code."""
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    return error.exit_code
