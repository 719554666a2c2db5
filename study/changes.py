"""One change to an arm's space, as a study file writes it: a value to hold fixed, a range or a choice."""

from __future__ import annotations

from typing import Any

from search_spaces import Choice, Condition, Dimension, Float, Int, SpaceError, Value
from study.errors import nearest, shown

_FLOAT_KEYS = ("low", "high", "log", "of_length", "why", "source", "when")
_INT_KEYS = ("low", "high", "log", "why", "source", "when")


def parse_change(change: Any) -> Dimension | Value:
    """A range `{low, high, log, int, of_length, why, source}`, a choice `{values: [...]}` or a plain value (fixed).

    A range or a choice with `when: {knob: [values]}` is searched only in trials where a choice of the same arm has one
    of these values: `norm_samples: {low: 4, high: 64, int: true, when: {sample_norms: [subset]}}`.

    Raises:
        SpaceError: the form is none of these, or its values break a dimension's rule.
    """
    if isinstance(change, bool | int | float | str):
        return change
    if not isinstance(change, dict):
        raise SpaceError(
            f"a hyperparameter is a value, {{low, high}} or {{values}}, but got {type(change).__name__}; "
            "write {values: [...]} for a choice"
        )
    options = dict(change)
    if "values" in options:
        values = options.pop("values")
        if not isinstance(values, list):
            raise SpaceError(f"values must be a list, but got {shown(values)}")
        for value in values:
            if not isinstance(value, bool | int | float | str):
                raise SpaceError(f"a choice holds numbers, words or true/false, but got {shown(value)}")
        _check_keys(options, ("why", "source", "when"))
        options["when"] = _condition(options.get("when", {}))
        return Choice(values=tuple(values), **options)
    if "low" not in options or "high" not in options:
        raise SpaceError(f"a range needs low and high, but got {', '.join(map(str, change)) or 'nothing'}")
    whole = options.pop("int", False)
    if not isinstance(whole, bool):
        raise SpaceError(f"int must be true or false, but got {shown(whole)}")
    _check_keys(options, _INT_KEYS if whole else _FLOAT_KEYS)
    options["when"] = _condition(options.get("when", {}))
    return Int(**options) if whole else Float(**options)


def _condition(when: Any) -> Condition:
    if not isinstance(when, dict):
        raise SpaceError(f"when must read {{knob: [values]}}, but got {shown(when)}")
    for knob, values in when.items():
        if not isinstance(values, list) or not values:
            raise SpaceError(f"when.{knob} must be a list of the values to wait for, but got {shown(values)}")
        for value in values:
            if not isinstance(value, bool | int | float | str):
                raise SpaceError(f"when.{knob} holds numbers, words or true/false, but got {shown(value)}")
    return tuple((str(knob), tuple(values)) for knob, values in when.items())


def _check_keys(options: dict[str, Any], allowed: tuple[str, ...]) -> None:
    for key, value in options.items():
        if key not in allowed:
            raise SpaceError(f"'{key}' does not belong here; {nearest(str(key), allowed)}")
        if key in ("low", "high") and not isinstance(value, bool | int | float | str):
            raise SpaceError(f"{key} must be a number, but got {shown(value)}")
        if key in ("log", "of_length") and not isinstance(value, bool):
            raise SpaceError(f"{key} must be true or false, but got {shown(value)}")
        if key in ("why", "source") and not isinstance(value, str):
            raise SpaceError(f"{key} must be text, but got {shown(value)}")
