"""What is trained: data, model, and what every trial of a block shares."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from search_spaces.catalog import DATA, INITIALIZATIONS, MODELS
from study.errors import shown
from study.sections.base import Count, Strict, one_of

Fraction = Annotated[float, Field(gt=0, lt=0.5)]
BatchSize = Literal["full"] | Count
OneDimensionalLr = Literal["raw", "capped"] | Annotated[float, Field(gt=0)]


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
