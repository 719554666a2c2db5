"""The rules that a trial's description is held to, field by field. Free of torch."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping
from typing import Any, Final

Scalar = float | int | str | bool


class ConfigError(ValueError):
    """A trial's description breaks a rule; the message states the rule, then the value."""


def require_known(what: str, name: str, allowed: tuple[str, ...]) -> None:
    """Raise ConfigError, with the nearest name where there is one, unless `name` is allowed."""
    if name in allowed:
        return
    near = difflib.get_close_matches(name, allowed, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"{what} must be one of {', '.join(allowed)}, but got {name!r}{hint}")


def known_fields(cls: type, values: Mapping[str, object], what: str) -> dict[str, Any]:
    """`values` as arguments of the dataclass. Raises ConfigError on unknown and on missing fields."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{what} must be a mapping, but got {type(values).__name__}")
    fields = {item.name: item for item in dataclasses.fields(cls)}
    for name in values:
        require_known(f"a field of {what}", str(name), tuple(fields))
    missing = [
        name
        for name, item in fields.items()
        if name not in values and item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"{what} lacks {', '.join(missing)}")
    return dict(values)


_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "str": (str,),
    "str | None": (str, type(None)),
    "int": (int,),
    "float": (float, int),
    "bool": (bool,),
    "float | None": (float, int, type(None)),
    "str | float": (str, float, int),
    "Mapping[str, Scalar]": (Mapping,),
}


def check_types(config: Any, *nested: type) -> None:
    """Raise ConfigError unless each field of a frozen dataclass is of its type, which is one of these classes or one
    of the few below; whole numbers become floats where those are asked for."""
    types = {**_TYPES, **{one.__name__: (one,) for one in nested}}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        allowed = types[str(item.type)]
        # bool is an int to Python, never to a study
        if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
            raise ConfigError(f"{item.name} must be of type {item.type}, but got {value!r} ({type(value).__name__})")
        if float in allowed and isinstance(value, (int, float)):
            object.__setattr__(config, item.name, float(value))


def plain_scalars(what: str, values: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Python's own scalars, sorted by name: numpy's would break torch.load(weights_only=True)."""
    plain: dict[str, Scalar] = {}
    for name, value in sorted(values.items()):
        if not isinstance(value, (bool, int, float, str)) and hasattr(value, "item"):
            value = value.item()
        elif isinstance(value, float):
            value = float(value)
        if not isinstance(value, (bool, int, float, str)):
            raise ConfigError(f"{what}.{name} must be a number, a string or a boolean, but got {value!r}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{what}.{name} must be finite, but got {value}")
        plain[name] = value
    return plain
