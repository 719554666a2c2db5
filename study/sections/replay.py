"""One trial of another study, run once more exactly as it was: `study.export` writes this section."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from search_spaces import SpaceError
from search_spaces.knobs import KNOBS, check_knob
from study.errors import nearest
from study.sections.base import Strict

Seed = Annotated[int, Field(ge=0)]


class ReplaySpec(Strict):
    """A single training run in the place of a search: nothing is sampled and no seed is derived."""

    params: dict[str, bool | int | float | str]
    """Every hyperparameter, those that the search held fixed included."""
    seed: Seed
    """Of weights, order and augmentation."""
    split_seed: Seed
    """Of the data split."""
    phase: Literal["search", "confirm"] = "search"
    """`search` sees the training and validation splits alone; `confirm` reads the test split at its end."""

    @field_validator("params")
    @classmethod
    def _legal(cls, params: dict[str, bool | int | float | str]) -> dict[str, bool | int | float | str]:
        if "base_lr" not in params:
            raise ValueError("base_lr is missing; no arm can train without it")
        for knob, value in params.items():
            if knob not in KNOBS:
                raise ValueError(f"unknown hyperparameter '{knob}'; {nearest(knob, KNOBS)}")
            try:
                check_knob(knob, value)
            except SpaceError as error:
                raise ValueError(str(error)) from None
        return params
