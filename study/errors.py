"""What a user can put right: one root, one sentence each, exit code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class StudyError(Exception):
    """Bad input or an unusable place. The message is one sentence: what is wrong, where, how to mend it."""

    exit_code = 2


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` where a known name is close, else the list of known names."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"known: {', '.join(names)}"
