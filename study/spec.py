"""The study file as typed, validated data (pydantic v2): unknown keys refused, types strict, rules checked at load."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from search_spaces import Dimension, SpaceError, Value
from search_spaces.catalog import AUGMENTATIONS, DATA, TASK_VIEWS
from study.arms import TASK_PREFIX, check_change, knobs_of_arm, space_of, task_space
from study.changes import parse_change
from study.errors import nearest, shown
from study.sections import (
    BudgetSpec,
    ClaimSpec,
    ConfirmSpec,
    DataSpec,
    DiagnosticsSpec,
    ModelSpec,
    ReplaySpec,
    ResourcesSpec,
    SearchSpec,
    Strict,
    TaskSpec,
    TrainSpec,
)

SCHEMA_VERSION: Final = 1
RESERVED_NAMES = ("mlflow.db", "mlartifacts")  # beside the studies in the home folder


class Spec(Strict):
    """One study: a question, what is compared, how it is searched and confirmed."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
    question: Annotated[str, Field(min_length=1)]
    task: str | TaskSpec = "classification"
    """classification, barlow_twins or module:Class; as {name, options} where it takes options."""
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
    budget: BudgetSpec = BudgetSpec()
    diagnostics: DiagnosticsSpec = DiagnosticsSpec()
    replay: ReplaySpec | None = None
    """One exported trial in the place of a search."""

    @field_validator("name")
    @classmethod
    def _free(cls, name: str) -> str:
        if name in RESERVED_NAMES:
            raise ValueError(f"'{name}' is what the home folder calls something else; choose another name")
        return name

    @field_validator("task")
    @classmethod
    def _known_task(cls, task: str | TaskSpec) -> str | TaskSpec:
        task_space(task if isinstance(task, str) else task.name)
        return task

    @field_validator("arms")
    @classmethod
    def _known_arms(cls, arms: list[str]) -> list[str]:
        for arm in arms:
            space_of(arm)
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
            known = [knobs_of_arm(a) for a in arms]
            allowed = frozenset().union(*known) if arm == "all" else known[arms.index(arm)]
            for knob, change in changes.items():
                if knob not in allowed and not knob.startswith(TASK_PREFIX):
                    raise ValueError(f"'{arm}' has no hyperparameter '{knob}'; {nearest(knob, allowed)}")
                try:
                    check_change(knob, parse_change(change))
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
        if isinstance(self.search.try_first, dict):
            for arm in self.search.try_first:
                if arm != "all" and arm not in self.arms:
                    raise ValueError(
                        f"search.try_first: '{arm}' is no arm of this study; {nearest(arm, [*self.arms, 'all'])}"
                    )
        for what, named in (("data", self.data_sets), ("model", self.models)):
            names = [item.name for item in named]
            if not names or len(set(names)) < len(names):
                raise ValueError(
                    f"the entries of '{what}' make blocks, so they must be given and differ, but got {names}"
                )
        return self

    @model_validator(mode="after")
    def _measurable(self) -> Spec:
        if self.diagnostics.noise_scale and self.task == "barlow_twins":
            raise ValueError(
                "diagnostics.noise_scale needs a loss that is a mean over samples, but that of barlow_twins couples "
                "the samples of a batch; leave it out"
            )
        return self

    @model_validator(mode="after")
    def _augmentable(self) -> Spec:
        augmentation = self.train.augmentation
        for data in self.data_sets:
            known = DATA[data.name].augmentations
            if augmentation not in known:
                raise ValueError(
                    f"train.augmentation of {data.name} is one of {', '.join(known)}, but got '{augmentation}'"
                )
            views = TASK_VIEWS.get(self.task_name)  # a user's own task says when it is built
            if views not in (None, AUGMENTATIONS[augmentation].views):
                fitting = [name for name in known if AUGMENTATIONS[name].views == views]
                raise ValueError(
                    f"task {self.task_name} trains on {views} view(s) of each image, but train.augmentation "
                    f"{augmentation} makes {AUGMENTATIONS[augmentation].views}; for {data.name} choose "
                    f"{' or '.join(fitting)}"
                )
        return self

    @model_validator(mode="after")
    def _replays_one_trial(self) -> Spec:
        if self.replay is None:
            return self
        blocks = len(self.data_sets) * len(self.models) * len(self.batch_sizes) * len(self.one_d_lrs)
        if len(self.arms) * blocks > 1:
            raise ValueError(
                "replay runs one trial of one arm in one setting; give one arm and no lists that make blocks"
            )
        search = SearchSpec(storage=self.search.storage)
        for section, default in (("search", search), ("confirm", ConfirmSpec()), ("space", {}), ("claims", [])):
            if getattr(self, section) != default:
                raise ValueError(f"replay says all there is to run, so '{section}' has no effect; leave it out")
        return self

    def _searches_batch_size(self) -> bool:
        return any("batch_size" in changes for changes in self.space.values())

    @property
    def task_name(self) -> str:
        return self.task if isinstance(self.task, str) else self.task.name

    @property
    def task_options(self) -> Mapping[str, Value]:
        return {} if isinstance(self.task, str) else self.task.options

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
        """The lock: a hash over the whole spec and over the spaces that its arms and its task bring."""
        spaces = {arm: repr(space_of(arm)) for arm in sorted(self.arms)}
        if task_space(self.task_name):
            spaces["task"] = repr(task_space(self.task_name))
        text = json.dumps({"spec": self.to_dict(), "spaces": spaces}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()
