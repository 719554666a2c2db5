"""`data.options` as a typed record: unknown names, wrong types and values out of range refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from trainables.config import ConfigError, DataConfig, Scalar, require_known

Options = TypeVar("Options")

_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a string"}


def read_options(config: DataConfig, kind: type[Options], lowest: Mapping[str, float] | None = None) -> Options:
    """An instance of the dataclass `kind` with the options given; `lowest` bounds its numbers from below.

    Raises ConfigError: the option, the rule, the value.
    """
    types = {item.name: str(item.type) for item in fields(kind)}  # type: ignore[arg-type]  # a dataclass
    given: dict[str, Any] = {}
    for name, value in config.options.items():
        if not types:
            raise ConfigError(f"{config.name} takes no options, but got {sorted(config.options)}")
        require_known(f"an option of {config.name}", name, tuple(types))
        bound = (lowest or {}).get(name)
        if not _is(types[name], value) or (bound is not None and float(value) < bound):
            least = "" if bound is None else f" of at least {bound:g}"
            raise ConfigError(f"{config.name}'s {name} must be {_KINDS[types[name]]}{least}, but got {value!r}")
        given[name] = value
    return kind(**given)


def _is(kind: str, value: Scalar) -> bool:
    if kind == "bool" or isinstance(value, bool):
        return kind == "bool" and isinstance(value, bool)
    if kind == "str":
        return isinstance(value, str)
    return isinstance(value, int) or (kind == "float" and isinstance(value, float))
