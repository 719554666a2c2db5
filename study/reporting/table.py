"""The final table of a study as plain text: at most 100 columns, ASCII, no colour."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from study.analysis.summary import BlockSummary, CellSummary, StudySummary
from study.reporting.wording import block_text, grouped_flags, interval_text, resolution_text

WIDTH = 100
_GAP = "  "
_LONGEST_NAME = 32
_HEADS = (
    ("", "test accuracy, %", "", "search trials", "epochs"),
    ("cell", "mean [95% interval]", "per repeat", "done stop  div fail", "spent of full"),
)


def final_table(summary: StudySummary) -> str:
    """One row per cell, blocks apart, notes below each block; no line is longer than `WIDTH`."""
    parts = [_block(block, summary) for block in summary.blocks]
    parts[:0] = [_wrap(note, "") for note in summary.notes]
    if not summary.finished:
        parts.insert(0, _wrap("Unfinished: the numbers below are of what has come to a result so far.", ""))
    if summary.single_repeat:
        parts.append(_wrap("One repeat: every number is for the configurations found, not for the arms.", ""))
    return "\n\n".join(parts)


def _block(block: BlockSummary, summary: StudySummary) -> str:
    by_name = all(len(cell.cell.name) <= _LONGEST_NAME - 2 for cell in block.cells)
    rows = [_row(cell, cell.cell.name if by_name else cell.cell.arm) for cell in block.cells]
    _shorten_repeats(rows, block.cells)
    lines = [_wrap(f"{block.block.label}: {block_text(block.block)}", "  "), *_aligned([*_HEADS, *rows])]
    for what, found in grouped_flags(block):
        details = "; ".join(f"{arm}: {detail}" for arm, detail in found)
        lines.append(_wrap(f"* {what} - {details}", "  "))
    lines.append(_wrap(resolution_text(block, summary), ""))
    return "\n".join(lines)


def _row(cell: CellSummary, name: str) -> tuple[str, ...]:
    name = name if len(name) <= _LONGEST_NAME - 2 else name[: _LONGEST_NAME - 5] + "..."
    mean = f"{cell.mean_points:5.1f} {interval_text(cell.interval)}" if cell.scores else "    - no confirm run"
    counts = cell.search
    return (
        f"{name} *" if cell.flags else name,
        mean,
        " ".join(f"{score.points:.1f}" for score in cell.scores),
        f"{counts.complete:4} {counts.pruned:4} {counts.diverged:4} {counts.failed:4}",
        f"{cell.epochs_spent:,} of {cell.epochs_full:,}",
    )


def _shorten_repeats(rows: list[tuple[str, ...]], cells: Sequence[CellSummary]) -> None:
    """Where there are more repeats than a line holds, show where they lie instead of each."""
    if sum(_widths([*_HEADS, *rows])) + 4 * len(_GAP) <= WIDTH:
        return
    for index, (row, cell) in enumerate(zip(rows, cells, strict=True)):
        points = [score.points for score in cell.scores]
        span = f"{min(points):.1f}..{max(points):.1f}" if points else ""
        rows[index] = (*row[:2], span, *row[3:])


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = _widths(rows)
    return [_GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _widths(rows: Sequence[tuple[str, ...]]) -> list[int]:
    return [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]


def _wrap(text: str, indent: str) -> str:
    return "\n".join(textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False))
