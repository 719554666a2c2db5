"""How each cell is tuned and its winners confirmed."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field, field_serializer, field_validator, model_validator

from study.errors import shown
from study.sections.base import Count, Strict
from study.sections.storage import check_storage, without_password

AUTOMATIC_TRIALS: Final = 6
Point = dict[str, Any]


class EarlyStoppingSpec(Strict):
    """When a bad trial ends before its full length. Trials are compared within one search, at the block's rungs."""

    method: Literal["none", "asha", "median"] = "none"
    """`asha`: of each rung's trials the best 1/reduction_factor go on. `median`: those below the median end."""
    reduction_factor: Annotated[int, Field(ge=2)] = 3
    """Also the factor from one rung's epoch to the next."""
    first_rung: Literal["auto"] | Count = "auto"
    """Epoch of the first rung; `auto` is the first after the longest warm-up or delay of any arm."""
    audit: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Fraction of each cell's stopped trials, drawn with the study's seed, that are run anew to their full length once
    the cell's searches are done (rounded up). Where one beats its search's winner, the report says so."""

    @model_validator(mode="after")
    def _stops_something(self) -> EarlyStoppingSpec:
        if self.audit and self.method == "none":
            raise ValueError("audit looks at stopped trials, and with method none there are none; leave it out")
        return self


class WarmStartSpec(Strict):
    """An earlier study in the same home whose best point of each arm is tried first."""

    study: Annotated[str, Field(min_length=1)]


class SearchSpec(Strict):
    """How each cell is tuned."""

    method: Literal["tpe", "random", "qmc", "gp", "cmaes", "grid"] = "tpe"
    """Optuna's samplers; `grid` runs every combination of the listed values once a repeat, stops nothing early, and
    has as many trials as the grid has points."""
    trials: Literal["auto"] | Count = "auto"
    """Trials of one search: the same for every cell and repeat. `auto` is 6, with `grid` the size of the grid."""
    repeats: Count = 3
    """Independent searches of each cell: the unit of inference."""
    metric: Literal["val/accuracy"] = "val/accuracy"
    """What a search maximises, at the last epoch."""
    seed: Annotated[int, Field(ge=0)] = 0
    startup_trials: Literal["auto"] | Count = "auto"
    """Random trials before tpe, gp or cmaes model anything; `auto` is a third of the budget, 10 at most."""
    try_first: list[Point] | dict[str, list[Point]] = Field(default_factory=list)
    """Points that each search begins with, a list for all arms or lists by arm (and `all`): what a point leaves out is
    sampled. They count in the budget and are marked."""
    warm_start: WarmStartSpec | None = None
    """Each search begins with the best point that an earlier study found for its arm (after `try_first`)."""
    equalize: bool = False
    """Early stopping leaves searches with unequal epochs: give those that spent less further trials, until less than
    half a full training separates them from the costliest of their block and repeat."""
    early_stopping: EarlyStoppingSpec = EarlyStoppingSpec()
    storage: str = "journal"
    """Optuna's storage: `journal` (a file in the study's folder), `sqlite`, or a database URL such as
    postgresql://user@host/optuna. A password comes from STUDY_STORAGE_PASSWORD or the URL and is never written down."""

    @field_validator("storage")
    @classmethod
    def _storage(cls, storage: str) -> str:
        return check_storage(storage)

    @field_serializer("storage", when_used="json")
    def _no_password(self, storage: str) -> str:
        return without_password(storage)

    @model_validator(mode="after")
    def _agreeing(self) -> SearchSpec:
        if self.method == "grid":
            if self.early_stopping.method != "none":
                raise ValueError("method grid compares every point at its full length; leave early_stopping out")
            if self.try_first or self.warm_start:
                raise ValueError("method grid runs the points of its grid alone; leave try_first and warm_start out")
            if self.equalize:
                raise ValueError("method grid runs each point once; leave equalize out")
        if self.equalize and self.early_stopping.method == "none":
            raise ValueError("without early stopping every search spends the same; leave equalize out")
        return self

    @field_validator("try_first")
    @classmethod
    def _points(cls, given: list[Point] | dict[str, list[Point]]) -> list[Point] | dict[str, list[Point]]:
        lists = given.values() if isinstance(given, dict) else [given]
        for point in (point for points in lists for point in points):
            if not point:
                raise ValueError("a point to try first must name at least one hyperparameter")
            for knob, value in point.items():
                if not isinstance(value, bool | int | float | str):
                    raise ValueError(f"{knob} of a point to try first must be one value, but got {shown(value)}")
        return given

    def points_of(self, arm: str) -> list[tuple[Point, bool]]:
        """The arm's points to try first, and whether each was written for this arm itself."""
        if isinstance(self.try_first, list):
            return [(point, False) for point in self.try_first]
        shared = [(point, False) for point in self.try_first.get("all", [])]
        return shared + [(point, True) for point in self.try_first.get(arm, [])]


class ConfirmSpec(Strict):
    """Fresh runs of each search's winner: only these read the test split."""

    seeds: Count = 1
    rerank: Annotated[int, Field(ge=0)] = 0
    """Run this many of each search's best trials once more, all with the same fresh seed, on the validation split; the
    best of these runs is the winner. 0 chooses by the search alone."""

    @field_validator("rerank")
    @classmethod
    def _several(cls, rerank: int) -> int:
        if rerank == 1:
            raise ValueError("to re-rank takes two candidates or more; 0 chooses by the search alone, but got 1")
        return rerank
