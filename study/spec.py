"""The study file as typed, validated data (pydantic v2): unknown keys refused, types strict, rules checked at load."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from search_spaces import ARM_SPACES, Dimension, SpaceError, Value
from search_spaces.catalog import DATA, INITIALIZATIONS, MODELS, TASKS
from search_spaces.knobs import check_knob, knobs_of
from study.changes import parse_change
from study.errors import nearest, shown

SCHEMA_VERSION: Final = 1
RESERVED_NAMES = ("mlflow.db", "mlartifacts")  # beside the studies in the home folder
Fraction = Annotated[float, Field(gt=0, lt=0.5)]
Count = Annotated[int, Field(ge=1)]
BatchSize = Literal["full"] | Count
OneDimensionalLr = Literal["raw", "capped"] | Annotated[float, Field(gt=0)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class DataSpec(_Strict):
    """A data set and how it is split."""

    name: str = "digits"
    root: str | None = None
    """Folder of the files on disk; embedded data sets need none."""
    validation_fraction: Fraction = 0.2
    """Split out of the training set by a seed."""
    test_fraction: Fraction = 0.2
    """Only for sets that ship no test split of their own."""
    resplit: bool = True
    """Draw the splits anew in each repeat (only sets without a test split of their own)."""

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        studied = [known for known, facts in DATA.items() if facts.items is not None]
        return _one_of(name, studied, "data set")


class ModelSpec(_Strict):
    """The network that is trained."""

    name: str = "resnet8"

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        return _one_of(name, MODELS, "model")


class TrainSpec(_Strict):
    """What every trial of a block shares."""

    epochs: Count = 20
    batch_size: list[BatchSize] | BatchSize = "full"
    """Global batch; a list makes blocks."""
    micro_batch_size: Literal["auto"] | Count = "auto"
    base_batch_size: Count = 256
    lr_scaling: Literal["linear", "sqrt", "none"] = "linear"
    one_d_lr: list[OneDimensionalLr] | OneDimensionalLr = "capped"
    """Learning rate of tensors with ndim <= 1; a list makes blocks."""
    init: str = "default"
    """Weight initialisation, unless an arm's space searches it."""
    augmentation: str = "none"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    precision: Literal["auto", "float32", "bf16"] = "auto"
    checkpoint_every_epochs: Count = 5

    @field_validator("init")
    @classmethod
    def _known_init(cls, init: str) -> str:
        return _one_of(init, INITIALIZATIONS, "initialisation")

    @field_validator("batch_size", "one_d_lr")
    @classmethod
    def _distinct(cls, value: object) -> object:
        if isinstance(value, list) and (not value or len({str(item) for item in value}) < len(value)):
            raise ValueError(f"the values that make blocks must be given and differ, but got {shown(value)}")
        return value


class EarlyStoppingSpec(_Strict):
    """When a bad trial ends before its full length."""

    method: Literal["none", "asha"] = "none"
    reduction_factor: Annotated[int, Field(ge=2)] = 3
    first_rung: Literal["auto"] | Count = "auto"
    """Epoch of the first rung; `auto` is the first after the longest warm-up or delay of any arm."""


class SearchSpec(_Strict):
    """How each cell is tuned."""

    method: Literal["tpe", "random", "qmc"] = "tpe"
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


class ConfirmSpec(_Strict):
    """Fresh runs of each search's winner: only these read the test split."""

    seeds: Count = 1


class ClaimSpec(_Strict):
    """A statement that the study is there to test, written down before it runs."""

    id: Annotated[str, Field(min_length=1, max_length=64)]
    kind: Literal["superior", "noninferior", "equivalent", "rate", "trend"]
    arm: str
    than: str | None = None
    over: Literal["batch_size"] | None = None
    metric: Literal["accuracy", "diverged"] = "accuracy"
    margin: Annotated[float, Field(ge=0, lt=1)]
    why: Annotated[str, Field(min_length=1)]
    """Why this margin."""
    level: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    pooled: bool = False
    """One verdict over all blocks instead of one a block."""

    @model_validator(mode="after")
    def _decidable(self) -> ClaimSpec:
        if self.kind == "trend":
            if self.over is None:
                raise ValueError(f"claim {self.id}: a trend needs over: batch_size")
        elif self.than is None:
            raise ValueError(f"claim {self.id}: kind {self.kind} compares two arms; name the other one in 'than'")
        if self.than == self.arm:
            raise ValueError(f"claim {self.id}: arm and than must differ, but both are {self.arm}")
        if self.kind in ("noninferior", "equivalent") and self.margin == 0:
            raise ValueError(f"claim {self.id}: with margin 0 {self.kind} can never be supported; give a margin > 0")
        return self


class ResourcesSpec(_Strict):
    """What one trial takes from the machine or cluster."""

    workers: Count = 1
    """Processes a trial; this version trains each trial in one."""
    cpus_per_worker: Annotated[int, Field(ge=1)] = 1
    gpus_per_worker: Literal["auto"] | Annotated[float, Field(ge=0)] = "auto"
    """`auto`: one where the cluster has GPUs, else none. A fraction shares a GPU."""
    max_concurrent: Literal["auto"] | Count = "auto"
    """Trials at a time; `auto` fills the cluster, 1 makes the order of everything reproducible."""
    retries: Annotated[int, Field(ge=0)] = 2
    """How often a crashed trial goes on from its checkpoint before it counts as failed."""

    @field_validator("workers")
    @classmethod
    def _one_worker(cls, workers: int) -> int:
        if workers > 1:
            raise ValueError(f"this version trains each trial in one process, but got {workers}; set it to 1")
        return workers


class Spec(_Strict):
    """One study: a question, what is compared, how it is searched and confirmed."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
    question: Annotated[str, Field(min_length=1)]
    task: str = "classification"
    data: DataSpec | list[DataSpec] = DataSpec()
    model: ModelSpec | list[ModelSpec] = ModelSpec()
    train: TrainSpec = TrainSpec()
    arms: Annotated[list[str], Field(min_length=1)]
    space: dict[str, dict[str, Any]] = {}
    """Changes to the arms' named spaces: by arm, or for `all` arms that have the knob."""
    search: SearchSpec = SearchSpec()
    confirm: ConfirmSpec = ConfirmSpec()
    claims: list[ClaimSpec] = []
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
        return _one_of(task, TASKS, "task")

    @field_validator("arms")
    @classmethod
    def _known_arms(cls, arms: list[str]) -> list[str]:
        for arm in arms:
            _one_of(arm, ARM_SPACES, "arm")
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


def _one_of(name: str, known: Any, what: str) -> str:
    if name not in known:
        raise ValueError(f"unknown {what} '{name}'; {nearest(name, known)}")
    return name
