"""Columns, sparklines, bytes and hours."""

from __future__ import annotations

import io
import math

import pytest

from study.text import WIDTH, aligned, bars_of, counted, hours, size, sparkline


def test_a_number_with_its_noun() -> None:
    assert counted(1, "trial") == "1 trial"
    assert counted(12345, "search", "es") == "12,345 searches"
    assert counted(1234567, "trial") == "1,234,567 trials"
    assert counted(0.5, "GPU") == "0.5 GPUs"


def test_columns_are_aligned() -> None:
    assert aligned([("cell", "n"), ("a", "10"), ("long name", "7")]) == [
        "cell        n",
        "a          10",
        "long name   7",
    ]


def test_the_first_column_gives_way() -> None:
    lines = aligned([("x" * 200, "1" * 40), ("y", "2")], left=(0, 1))
    assert [len(line) for line in lines] == [WIDTH, WIDTH - 39]
    assert lines[0].startswith("x" * 50)
    assert "x...  1" in lines[0]


def test_sparkline_rises_with_the_values() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([7, 0]) == "█▁"
    assert sparkline([3, 3, 3]) == "▁▁▁"
    assert sparkline([]) == ""


def test_sparkline_marks_what_is_not_finite() -> None:
    assert sparkline([0, math.nan, 1, math.inf]) == "▁x█x"


def test_sparkline_thins_long_series_and_keeps_both_ends() -> None:
    line = sparkline([float(i) for i in range(1000)], most=8)
    assert line == "▁▂▃▄▅▆▇█"


def test_sparkline_in_ascii() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], ascii_only=True).isascii()
    assert bars_of(io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert not bars_of(io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (5 << 20, "5.0 MiB"), (3 << 40, "3072.0 GiB")],
)
def test_size(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0.000"), (36, "0.010"), (3600, "1.000"), (36_000, "10.0"), (3_600_000, "1,000")]
)
def test_hours(seconds: float, text: str) -> None:
    assert hours(seconds) == text
