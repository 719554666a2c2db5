"""The sections of a study file, each a small typed model; `study.spec` puts them together."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from search_spaces.catalog import DATA, INITIALIZATIONS, MODELS
from study.errors import nearest, shown

Fraction = Annotated[float, Field(gt=0, lt=0.5)]
Count = Annotated[int, Field(ge=1)]
BatchSize = Literal["full"] | Count
OneDimensionalLr = Literal["raw", "capped"] | Annotated[float, Field(gt=0)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class DataSpec(Strict):
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
        return one_of(name, studied, "data set")


class ModelSpec(Strict):
    """The network that is trained."""

    name: str = "resnet8"

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        return one_of(name, MODELS, "model")


class TrainSpec(Strict):
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
        return one_of(init, INITIALIZATIONS, "initialisation")

    @field_validator("batch_size", "one_d_lr")
    @classmethod
    def _distinct(cls, value: object) -> object:
        if isinstance(value, list) and (not value or len({str(item) for item in value}) < len(value)):
            raise ValueError(f"the values that make blocks must be given and differ, but got {shown(value)}")
        return value


class EarlyStoppingSpec(Strict):
    """When a bad trial ends before its full length."""

    method: Literal["none", "asha", "median"] = "none"
    reduction_factor: Annotated[int, Field(ge=2)] = 3
    first_rung: Literal["auto"] | Count = "auto"
    """Epoch of the first rung; `auto` is the first after the longest warm-up or delay of any arm."""

    @field_validator("method")
    @classmethod
    def _here(cls, method: str) -> str:
        return _in_this_version(method, ("none", "asha"), "early stopping")


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
        return _in_this_version(method, ("tpe", "random", "qmc"), "search")


class ConfirmSpec(Strict):
    """Fresh runs of each search's winner: only these read the test split."""

    seeds: Count = 1


class ClaimSpec(Strict):
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
        if (self.kind == "rate") != (self.metric == "diverged"):
            raise ValueError(
                f"claim {self.id}: kind rate goes with metric diverged alone, but got {self.kind} with {self.metric}"
            )
        if self.than == self.arm:
            raise ValueError(f"claim {self.id}: arm and than must differ, but both are {self.arm}")
        if self.kind in ("noninferior", "equivalent") and self.margin == 0:
            raise ValueError(f"claim {self.id}: with margin 0 {self.kind} can never be supported; give a margin > 0")
        return self


class ResourcesSpec(Strict):
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


def one_of(name: str, known: Any, what: str) -> str:
    if name not in known:
        raise ValueError(f"unknown {what} '{name}'; {nearest(name, known)}")
    return name


def _in_this_version(method: str, available: tuple[str, ...], what: str) -> str:
    if method not in available:
        raise ValueError(f"the {what} method '{method}' is not in this version yet; it has {', '.join(available)}")
    return method
