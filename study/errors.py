"""What a user can put right: one root, one sentence each, exit code 2."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable

MOST_NAMES = 20  # that a message lists
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100
_SHORT.maxlong = 40
_SHORT.maxlist = _SHORT.maxdict = 6
_SHORT.maxlevel = 2  # YAML aliases can nest a short file into a value of gigabytes


class StudyError(Exception):
    """Bad input or an unusable place. The message is one sentence: what is wrong, where, how to mend it."""

    exit_code = 2


def shown(value: object) -> str:
    """A given value for a message: its repr, shortened where it is long or deep."""
    return _SHORT.repr(value)


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` where a known name is close, else the list of known names."""
    names = sorted(known)
    some = ", ".join(names[:MOST_NAMES]) + (f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else "")
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"known: {some}"
