"""How each cell is tuned and its winners confirmed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from study.sections.base import Count, Strict, in_this_version


class EarlyStoppingSpec(Strict):
    """When a bad trial ends before its full length."""

    method: Literal["none", "asha", "median"] = "none"
    reduction_factor: Annotated[int, Field(ge=2)] = 3
    first_rung: Literal["auto"] | Count = "auto"
    """Epoch of the first rung; `auto` is the first after the longest warm-up or delay of any arm."""

    @field_validator("method")
    @classmethod
    def _here(cls, method: str) -> str:
        return in_this_version(method, ("none", "asha"), "early stopping")


class SearchSpec(Strict):
    """How each cell is tuned."""

    method: Literal["tpe", "random", "qmc", "gp", "cmaes", "grid"] = "tpe"
    trials: Count = 6
    """Trials of one search: the same for every cell and repeat."""
    repeats: Count = 3
    """Independent searches of each cell: the unit of inference."""
    metric: Literal["val/accuracy"] = "val/accuracy"
    """What a search maximises, at the last epoch."""
    seed: Annotated[int, Field(ge=0)] = 0
    startup_trials: Literal["auto"] | Count = "auto"
    """Random trials before TPE models anything; `auto` is a third of the budget, 10 at most."""
    early_stopping: EarlyStoppingSpec = EarlyStoppingSpec()

    @field_validator("method")
    @classmethod
    def _here(cls, method: str) -> str:
        return in_this_version(method, ("tpe", "random", "qmc"), "search")


class ConfirmSpec(Strict):
    """Fresh runs of each search's winner: only these read the test split."""

    seeds: Count = 1
