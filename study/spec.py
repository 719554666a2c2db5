"""The study file as typed, validated data (pydantic v2): unknown keys refused, types strict, rules checked at load."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from search_spaces import ARM_SPACES, Dimension, SpaceError, Value
from search_spaces.catalog import DATA, TASKS
from search_spaces.knobs import check_knob, knobs_of
from study.changes import parse_change
from study.errors import nearest, shown
from study.sections import (
    ClaimSpec,
    ConfirmSpec,
    DataSpec,
    ModelSpec,
    ResourcesSpec,
    SearchSpec,
    Strict,
    TrainSpec,
    one_of,
)

SCHEMA_VERSION: Final = 1
RESERVED_NAMES = ("mlflow.db", "mlartifacts")  # beside the studies in the home folder


class Spec(Strict):
    """One study: a question, what is compared, how it is searched and confirmed."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
    question: Annotated[str, Field(min_length=1)]
    task: str = "classification"
    data: DataSpec | list[DataSpec] = DataSpec()
    model: ModelSpec | list[ModelSpec] = ModelSpec()
    train: TrainSpec = TrainSpec()
    arms: Annotated[list[str], Field(min_length=1)]
    space: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Changes to the arms' named spaces: by arm, or for `all` arms that have the knob."""
    search: SearchSpec = SearchSpec()
    confirm: ConfirmSpec = ConfirmSpec()
    claims: list[ClaimSpec] = Field(default_factory=list)
    resources: ResourcesSpec = ResourcesSpec()

    @field_validator("name")
    @classmethod
    def _free(cls, name: str) -> str:
        if name in RESERVED_NAMES:
            raise ValueError(f"'{name}' is what the home folder calls something else; choose another name")
        return name

    @field_validator("task")
    @classmethod
    def _known_task(cls, task: str) -> str:
        return one_of(task, TASKS, "task")

    @field_validator("arms")
    @classmethod
    def _known_arms(cls, arms: list[str]) -> list[str]:
        for arm in arms:
            one_of(arm, ARM_SPACES, "arm")
        if len(set(arms)) < len(arms):
            raise ValueError(f"each arm may stand once, but got {shown(arms)}")
        return arms

    @field_validator("space")
    @classmethod
    def _known_knobs(cls, space: dict[str, dict[str, Any]], info: ValidationInfo) -> dict[str, dict[str, Any]]:
        arms = info.data.get("arms", [])
        for arm, changes in space.items():
            if arm != "all" and arm not in arms:
                raise ValueError(f"'{arm}' is no arm of this study; {nearest(arm, [*arms, 'all'])}")
            known = [knobs_of({**ARM_SPACES[a].dimensions, **ARM_SPACES[a].fixed}) for a in arms]
            allowed = frozenset().union(*known) if arm == "all" else known[arms.index(arm)]
            for knob, change in changes.items():
                if knob not in allowed:
                    raise ValueError(f"'{arm}' has no hyperparameter '{knob}'; {nearest(knob, allowed)}")
                try:
                    check_knob(knob, parse_change(change))
                except SpaceError as error:
                    raise ValueError(f"space.{arm}.{knob}: {error}") from None
        return space

    @model_validator(mode="after")
    def _consistent(self) -> Spec:
        for claim in self.claims:
            for arm in (claim.arm, claim.than):
                if arm is not None and arm not in self.arms:
                    raise ValueError(f"claim {claim.id}: '{arm}' is no arm of this study; {nearest(arm, self.arms)}")
            if claim.over == "batch_size" and len(self.batch_sizes) < 2:
                raise ValueError(f"claim {claim.id}: a trend over batch_size needs two or more in train.batch_size")
        if self._searches_batch_size():
            if len(self.batch_sizes) > 1:
                raise ValueError("batch size is searched in 'space', so train.batch_size must be a single value")
            if any(claim.over == "batch_size" for claim in self.claims):
                raise ValueError("batch size is searched in 'space', so no claim can be made per batch size")
        for what, named in (("data", self.data_sets), ("model", self.models)):
            names = [item.name for item in named]
            if not names or len(set(names)) < len(names):
                raise ValueError(
                    f"the entries of '{what}' make blocks, so they must be given and differ, but got {names}"
                )
        for data in self.data_sets:
            known = DATA[data.name].augmentations
            if self.train.augmentation not in known:
                raise ValueError(
                    f"train.augmentation of {data.name} is one of {', '.join(known)}, "
                    f"but got '{self.train.augmentation}'"
                )
        return self

    def _searches_batch_size(self) -> bool:
        return any("batch_size" in changes for changes in self.space.values())

    @property
    def data_sets(self) -> list[DataSpec]:
        return self.data if isinstance(self.data, list) else [self.data]

    @property
    def models(self) -> list[ModelSpec]:
        return self.model if isinstance(self.model, list) else [self.model]

    @property
    def batch_sizes(self) -> list[int | str]:
        sizes = self.train.batch_size
        return list(sizes) if isinstance(sizes, list) else [sizes]

    @property
    def one_d_lrs(self) -> list[str | float]:
        rates = self.train.one_d_lr
        return list(rates) if isinstance(rates, list) else [rates]

    def space_changes(self, arm: str) -> dict[str, Dimension | Value]:
        """The study file's changes to one arm's space (or to `all`), as dimensions and plain values."""
        return {knob: parse_change(change) for knob, change in self.space.get(arm, {}).items()}

    def to_dict(self) -> dict[str, Any]:
        """Plain data that writes as YAML or JSON and loads to an equal spec."""
        return self.model_dump(mode="json")

    def digest(self) -> str:
        """The lock: a hash over the whole spec and over the shipped spaces of its arms."""
        spaces = {arm: repr(ARM_SPACES[arm]) for arm in sorted(self.arms)}
        text = json.dumps({"spec": self.to_dict(), "spaces": spaces}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()
