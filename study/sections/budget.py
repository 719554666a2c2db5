"""What a study may spend before it ends with what it has."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, field_validator

from study.errors import shown
from study.sections.base import Strict

_PARTS = re.compile(
    r"^(?:(?P<d>\d+(?:\.\d+)?)d)?(?:(?P<h>\d+(?:\.\d+)?)h)?(?:(?P<m>\d+(?:\.\d+)?)m)?(?:(?P<s>\d+(?:\.\d+)?)s)?$"
)
_SECONDS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0}


class BudgetSpec(Strict):
    """What a study may spend, over all its sessions. When it is spent the study ends with what it has: running trials
    stop and keep their checkpoints, the report is written and names the budget, and the exit code is 0. A greater
    budget and --resume go on."""

    device_hours: Annotated[float, Field(gt=0)] | None = None
    """Wall time of all trials times the devices that each holds: GPUs, or workers where it has none."""
    wall: str | None = None
    """Wall time of the study's sessions: 2h, 90m, 1h30m, 45s, 1d12h."""

    @field_validator("wall")
    @classmethod
    def _duration(cls, wall: str | None) -> str | None:
        if wall is not None:
            seconds_of(wall)
        return wall

    @property
    def wall_seconds(self) -> float | None:
        return None if self.wall is None else seconds_of(self.wall)

    @property
    def device_seconds(self) -> float | None:
        return None if self.device_hours is None else 3_600 * self.device_hours


def seconds_of(text: str) -> float:
    """A duration such as `1h30m` in seconds.

    Raises:
        ValueError: it is none, or nothing long.
    """
    found = _PARTS.match(text)
    seconds = sum(float(value) * _SECONDS[unit] for unit, value in found.groupdict(default="0").items()) if found else 0
    if seconds <= 0:
        raise ValueError(f"a duration reads like 2h, 90m or 1h30m, but got {shown(text)}")
    return seconds
