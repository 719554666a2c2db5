"""What the sections of a study file share: strict typed models and the words for what is not known."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from study.errors import nearest

Count = Annotated[int, Field(ge=1)]


class Strict(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


def one_of(name: str, known: Any, what: str) -> str:
    if name not in known:
        raise ValueError(f"unknown {what} '{name}'; {nearest(name, known)}")
    return name
