"""Colours of the report: one per arm, the same in every figure, after Okabe and Ito.

Figures are drawn in the light colours; in the page each becomes a CSS variable, so that dark mode can lift it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

INK = "#1b2126"
MUTED = "#68727b"
GRID = "#e3e7ea"
PAPER = "#fefefe"
ALARM = "#b3261e"

# (light, dark); neighbours differ in lightness as well as hue.
_ARMS: tuple[tuple[str, str], ...] = (
    ("#0072b2", "#4fa8e0"),
    ("#d55e00", "#f28a3c"),
    ("#009e73", "#2dc69a"),
    ("#b0528a", "#e08fbd"),
    ("#a87500", "#e2b13c"),
    ("#4a4f54", "#c3c8cc"),
    ("#3f98cf", "#8ccdf2"),
    ("#3d2f91", "#a094f2"),
    ("#7f1d4f", "#d672a5"),
    ("#6f7410", "#c5c95a"),
    ("#2f7f78", "#7fcfc6"),
    ("#8a5a3c", "#d0a183"),
)
_BASE: Mapping[str, tuple[str, str, str]] = {
    INK: ("ink", INK, "#e8eaed"),
    MUTED: ("muted", MUTED, "#9aa4ad"),
    GRID: ("grid", GRID, "#343b42"),
    PAPER: ("paper", PAPER, "#15191d"),
    ALARM: ("alarm", ALARM, "#ff8a80"),
}


def arm_colours(arms: Sequence[str]) -> dict[str, str]:
    """The light colour of each arm, by its place among the study's arms; beyond twelve they repeat."""
    return {arm: _ARMS[index % len(_ARMS)][0] for index, arm in enumerate(dict.fromkeys(arms))}


def css_name(colour: str) -> str | None:
    """The CSS variable that stands for a figure's colour; None for a colour that is not of this palette."""
    if colour in _BASE:
        return f"--{_BASE[colour][0]}"
    return next((f"--arm-{index}" for index, (light, _) in enumerate(_ARMS) if light == colour), None)


def css_variables(dark: bool) -> str:
    """Declarations of every colour for one mode."""
    base = [f"--{name}: {night if dark else day};" for name, day, night in _BASE.values()]
    arms = [f"--arm-{index}: {pair[dark]};" for index, pair in enumerate(_ARMS)]
    return " ".join([*base, *arms])


def palette() -> tuple[str, ...]:
    """Every light colour that a figure may draw with."""
    return (*_BASE, *(light for light, _ in _ARMS))
