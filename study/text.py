"""Pieces of plain text that the commands share: columns, sparklines, bytes, times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TextIO

WIDTH = 100
_BARS = "▁▂▃▄▅▆▇█"
_ASCII_BARS = "_.-~=+*#"


def counted(number: float, word: str, plural: str = "s") -> str:
    """A number with its noun: 1 trial, 1,000 trials, 0.5 GPUs."""
    return f"{number:,g} {word}{'' if number == 1 else plural}" if number < 1e6 else f"{number:,.0f} {word}{plural}"


def aligned(rows: Sequence[Sequence[str]], *, left: Sequence[int] = (0,), gap: str = "  ") -> list[str]:
    """Rows as columns within `WIDTH`; the columns `left` stand left, all others right, and the first is cut to fit."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rest = sum(widths[1:]) + len(gap) * (len(widths) - 1)
    widths[0] = max(min(widths[0], WIDTH - rest), 4)
    lines = []
    for row in rows:
        first = row[0] if len(row[0]) <= widths[0] else row[0][: widths[0] - 3] + "..."
        cells = [
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip((first, *row[1:]), widths, strict=True))
        ]
        lines.append(gap.join(cells).rstrip())
    return lines


def sparkline(values: Sequence[float], *, most: int = 60, ascii_only: bool = False) -> str:
    """Values as bars of eight heights between their least and their greatest; a long series is thinned to `most`.

    What is not finite is an `x`.
    """
    if len(values) > most:
        values = [values[round(place * (len(values) - 1) / (most - 1))] for place in range(most)]
    bars = _ASCII_BARS if ascii_only else _BARS
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    return "".join(
        ("x" if not math.isfinite(value) else bars[_height(value, low, high, len(bars))]) for value in values
    )


def _height(value: float, low: float, high: float, heights: int) -> int:
    if high <= low:
        return 0
    return min(int((value - low) / (high - low) * heights), heights - 1)


def can_show(text: str, out: TextIO) -> bool:
    """Whether the stream's encoding has all of the text's characters."""
    try:
        text.encode(getattr(out, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def bars_of(out: TextIO) -> bool:
    """Whether sparklines on the stream must do with ASCII."""
    return not can_show(_BARS, out)


def size(count: int) -> str:
    """Bytes for a reader: `512 bytes`, `1.5 MiB`."""
    value = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{count} bytes" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError


def hours(seconds: float) -> str:
    """Seconds as hours, with as many digits as say something."""
    value = seconds / 3600
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.3f}"
