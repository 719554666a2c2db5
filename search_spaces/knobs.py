"""What each hyperparameter can be at all, whatever an arm's space makes of it: bounds for every override."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from search_spaces.catalog import INITIALIZATIONS, SAMPLE_NORM_MODES
from search_spaces.dimensions import Choice, Dimension, SpaceError, Value


@dataclass(frozen=True)
class Knob:
    """A hyperparameter's legal values: a number between bounds, or one of `words` (either may be empty)."""

    low: float | None = None
    high: float | None = None
    open_low: bool = False  # low itself is not allowed
    open_high: bool = False
    whole: bool = False
    words: tuple[str, ...] = ()
    boolean: bool = False

    def rule(self) -> str:
        """The rule in words, for an error message."""
        parts = []
        if self.low is not None:
            sign = ">" if self.open_low else ">="
            text = f"a {'whole ' if self.whole else ''}number {sign} {self.low:g}"
            if self.high is not None:
                text += f" and {'<' if self.open_high else '<='} {self.high:g}"
            parts.append(text)
        if self.words:
            parts.append("one of " + ", ".join(self.words))
        if self.boolean:
            parts.append("true or false")
        return " or ".join(parts)

    def allows(self, value: Value) -> bool:
        if isinstance(value, bool):
            return self.boolean
        if isinstance(value, str):
            return value in self.words
        if self.low is None or not math.isfinite(value) or (self.whole and not isinstance(value, int)):
            return False
        above = value > self.low if self.open_low else value >= self.low
        below = self.high is None or (value < self.high if self.open_high else value <= self.high)
        return above and below


_POSITIVE = Knob(low=0, open_low=True)
_NOT_NEGATIVE = Knob(low=0)
_BELOW_ONE = Knob(low=0, high=1, open_high=True)
_SWITCH = Knob(boolean=True)

KNOBS: Mapping[str, Knob] = {
    "base_lr": _POSITIVE,
    "weight_decay": _NOT_NEGATIVE,
    "momentum": _BELOW_ONE,
    "trust_coefficient": _POSITIVE,
    "nesterov": _SWITCH,
    "sample_norms": Knob(words=SAMPLE_NORM_MODES),
    "norm_samples": Knob(low=2, whole=True),
    "beta1": _BELOW_ONE,
    "beta2": _BELOW_ONE,
    "eps": _POSITIVE,
    "bias_correction": _SWITCH,
    "warmup_epochs": _NOT_NEGATIVE,
    "warmup_start": Knob(words=("one", "zero")),
    "decay_epochs": _POSITIVE,
    "delay_epochs": _NOT_NEGATIVE,
    "alpha": _POSITIVE,
    "gamma_min": Knob(low=0, words=("paper_literal",)),
    "init": Knob(words=INITIALIZATIONS),
    "batch_size": Knob(low=1, whole=True),
}

# Knobs that an arm which has them can never do without: no condition may take them out of a trial.
NEEDED_KNOBS = frozenset({"base_lr", "warmup_epochs", "decay_epochs", "delay_epochs"})

# Knobs that any arm may take beside those of its own space.
COMMON_KNOBS: tuple[str, ...] = ("init", "batch_size")
_OPTIONAL_KNOBS: Mapping[str, tuple[str, ...]] = {
    "warmup_epochs": ("warmup_start",),
    "sample_norms": ("norm_samples",),
}


def knobs_of(names: Mapping[str, object]) -> frozenset[str]:
    """Every knob that an arm with these ones can take."""
    more = [extra for name, extras in _OPTIONAL_KNOBS.items() if name in names for extra in extras]
    return frozenset([*names, *COMMON_KNOBS, *more])


def check_knob(name: str, change: Dimension | Value) -> None:
    """Refuse a value or a range that the hyperparameter cannot take.

    Raises:
        SpaceError: with the rule and the values.
    """
    knob = KNOBS[name]
    if isinstance(change, Choice):
        wrong = [value for value in change.values if not knob.allows(value)]
        if wrong:
            raise SpaceError(f"{name} takes {knob.rule()}, but the choices hold {wrong[0]!r}")
    elif isinstance(change, bool | int | float | str):
        if not knob.allows(change):
            raise SpaceError(f"{name} takes {knob.rule()}, but got {change!r}")
    else:
        for bound in ("low", "high"):
            value = getattr(change, bound)
            if not knob.allows(value):
                raise SpaceError(f"{name} takes {knob.rule()}, but got {bound}={value!r}")
