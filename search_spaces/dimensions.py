"""Typed search dimensions: what may vary in a trial, between which bounds, and why.

Data only: nothing here knows a sampler. `study.search` turns a dimension into Optuna's distribution of the same kind.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

Value = bool | int | float | str
Condition = tuple[tuple[str, tuple[Value, ...]], ...]
"""When a dimension is there at all: for each knob named, the values that it must have."""


class SpaceError(ValueError):
    """A dimension or a space breaks a rule; the message states the rule, then the values."""


@dataclass(frozen=True, kw_only=True)
class Float:
    """A real number in [low, high], sampled uniformly or, with `log`, log-uniformly."""

    low: float
    high: float
    log: bool = False
    of_length: bool = False  # the bounds are fractions of the training length in epochs, until `at_length`
    why: str = ""
    source: str = ""
    when: Condition = ()

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            bound = getattr(self, name)
            if isinstance(bound, bool) or not isinstance(bound, int | float) or not math.isfinite(bound):
                raise SpaceError(f"{name} must be a finite number, but got {name}={bound!r}")
            object.__setattr__(self, name, float(bound))
        _check_bounds(self.low, self.high, self.log)

    def contains(self, value: Value) -> bool:
        return _is_number(value) and self.low <= float(value) <= self.high

    def position(self, value: Value) -> float | None:
        """Where `value` lies between the bounds, 0 to 1, on the scale that is searched; None for a single point."""
        return _position(self.low, self.high, self.log, value)

    def at_length(self, epochs: int) -> Float:
        """The same range in epochs, where the bounds were fractions of the training length."""
        if not self.of_length:
            return self
        return replace(self, low=self.low * epochs, high=self.high * epochs, of_length=False)

    def describe(self) -> str:
        unit = " of the training length" if self.of_length else ""
        return f"{self.low:g} to {self.high:g}{unit}{', log' if self.log else ''}{_when_text(self.when)}"


@dataclass(frozen=True, kw_only=True)
class Int:
    """A whole number in [low, high]; both ends belong to the range."""

    low: int
    high: int
    log: bool = False
    why: str = ""
    source: str = ""
    when: Condition = ()

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            bound = getattr(self, name)
            if isinstance(bound, bool) or not isinstance(bound, int):
                raise SpaceError(f"{name} must be a whole number, but got {name}={bound!r}")
        _check_bounds(self.low, self.high, self.log)

    def contains(self, value: Value) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high

    def position(self, value: Value) -> float | None:
        return _position(self.low, self.high, self.log, value)

    def describe(self) -> str:
        return f"{self.low} to {self.high}, whole{', log' if self.log else ''}{_when_text(self.when)}"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One of several values; words have no order, numbers have one whatever the order they are listed in."""

    values: tuple[Value, ...]
    why: str = ""
    source: str = ""
    when: Condition = ()

    def __post_init__(self) -> None:
        values = tuple(self.values)
        if not values:
            raise SpaceError("a choice needs at least one value, but got none")
        for value in values:
            if not isinstance(value, bool | int | float | str):
                raise SpaceError(f"a choice holds numbers, words or true/false, but got {value!r}")
        if len({(type(value), value) for value in values}) < len(values):
            raise SpaceError(f"the values of a choice must differ, but got {list(values)}")
        object.__setattr__(self, "values", values)

    def contains(self, value: Value) -> bool:
        return value in self.values

    def position(self, value: Value) -> float | None:
        """Where `value` stands among listed numbers, 0 to 1 by rank: the first and the last are ends like a range's.

        None for words and true/false, which have no order, and for a single value.
        """
        if value not in self.values:
            raise SpaceError(f"only a listed value has a place, but got {value!r}")
        if len(self.values) < 2 or not all(_is_number(listed) for listed in self.values):
            return None
        return sum(listed < value for listed in self.values) / (len(self.values) - 1)  # type: ignore[operator]

    def describe(self) -> str:
        return "one of " + ", ".join(str(value) for value in self.values) + _when_text(self.when)


Dimension = Float | Int | Choice


def applies(dimension: Dimension, chosen: Mapping[str, Value]) -> bool:
    """Whether a conditional dimension is there, given the values chosen for the knobs before it."""
    return all(knob in chosen and chosen[knob] in values for knob, values in dimension.when)


@dataclass(frozen=True)
class Space:
    """What one arm may vary (`dimensions`) and what it holds still (`fixed`), by hyperparameter name."""

    dimensions: Mapping[str, Dimension]
    fixed: Mapping[str, Value]

    def __post_init__(self) -> None:
        both = sorted(set(self.dimensions) & set(self.fixed))
        if both:
            raise SpaceError(f"a hyperparameter is either searched or fixed, but both hold {', '.join(both)}")

    def changed(self, changes: Mapping[str, Dimension | Value]) -> Space:
        """The space with each name in `changes` searched anew (a dimension) or fixed (a plain value)."""
        dimensions = {name: dim for name, dim in self.dimensions.items() if name not in changes}
        fixed = {name: value for name, value in self.fixed.items() if name not in changes}
        for name, change in changes.items():
            if isinstance(change, Float | Int | Choice):
                dimensions[name] = change
            else:
                fixed[name] = change
        return Space(dimensions, fixed)

    def at_length(self, epochs: int) -> Space:
        """The space with every range that is a fraction of the training length in epochs."""
        resolved = {
            name: dim.at_length(epochs) if isinstance(dim, Float) else dim for name, dim in self.dimensions.items()
        }
        return Space(resolved, self.fixed)

    def conditioned(self) -> Space:
        """The space with its conditions checked and in the order that they can be answered in: parents first.

        A condition on a knob that is held fixed is answered here: the dimension stays without it, or goes.

        Raises:
            SpaceError: a condition names a knob that is not there, a value that it never has, or waits for itself.
        """
        dimensions = {name: dim for name, dim in self.dimensions.items() if not self._never(name, dim)}
        pending = {name: self._on_searched(dim) for name, dim in dimensions.items()}
        ordered: dict[str, Dimension] = {}
        while pending:
            ready = [name for name, dim in pending.items() if all(knob in ordered for knob, _ in dim.when)]
            if not ready:
                raise SpaceError(f"the conditions of {', '.join(sorted(pending))} wait for each other")
            for name in ready:
                ordered[name] = pending.pop(name)
        return Space(ordered, self.fixed)

    def _never(self, name: str, dimension: Dimension, below: tuple[str, ...] = ()) -> bool:
        """Whether a fixed knob, or a parent that is never there, keeps the dimension out of every trial."""
        if name in below:
            raise SpaceError(f"the conditions of {', '.join(sorted(below))} wait for each other")
        for knob, values in dimension.when:
            if knob in self.fixed:
                if self.fixed[knob] not in values:
                    return True
                continue
            parent = self.dimensions.get(knob)
            if not isinstance(parent, Choice):
                what = "is a range" if parent is not None else "is no hyperparameter of this arm"
                raise SpaceError(f"{name} waits for '{knob}', which {what}; a condition names a choice ({{values}})")
            impossible = [value for value in values if value not in parent.values]
            if impossible:
                raise SpaceError(f"{name} waits for {knob}={impossible[0]!r}, which is no value of that choice")
            if self._never(knob, parent, (*below, name)):
                return True
        return False

    def _on_searched(self, dimension: Dimension) -> Dimension:
        return replace(dimension, when=tuple(item for item in dimension.when if item[0] not in self.fixed))


def _when_text(when: Condition) -> str:
    return "".join(f", when {knob} is {' or '.join(map(str, values))}" for knob, values in when)


def _check_bounds(low: float, high: float, log: bool) -> None:
    if low > high:
        raise SpaceError(f"low <= high must hold, but got low={low:g}, high={high:g}")
    if log and low <= 0:
        raise SpaceError(f"a log scale needs low > 0, but got low={low:g}")


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _position(low: float, high: float, log: bool, value: Value) -> float | None:
    if not _is_number(value):
        raise SpaceError(f"only a number has a place in a range, but got {value!r}")
    if low == high:
        return None
    if log:
        return (math.log(float(value)) - math.log(low)) / (math.log(high) - math.log(low))
    return (float(value) - low) / (high - low)
