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
    download: bool = False
    """Fetch the files into `root` where they are missing (cifar10, cifar100)."""
    options: dict[str, bool | int | float | str] = Field(default_factory=dict)
    """What only this data set knows, such as the shape of `synthetic` or the image size of `image_folder`."""
    validation_fraction: Fraction = 0.2
    """Split out of the training set by a seed."""
    test_fraction: Fraction = 0.2
    """Only for sets that ship no test split of their own."""
    resplit: bool = True
    """Draw the splits anew in each repeat (only sets without a test split of their own)."""

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        return one_of(name, DATA, "data set")


class ModelSpec(Strict):
    """The network that is trained."""

    name: str = "resnet8"
    """A shipped model, or module:factory called with (in_channels, classes, image_size)."""

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if ":" not in name:  # a user's own is looked for where it is built
            one_of(name, MODELS, "model")
        return name


class TaskSpec(Strict):
    """What the network is trained for, where the task takes options."""

    name: str
    options: dict[str, bool | int | float | str] = Field(default_factory=dict)
    """What only this task knows, such as the projector of `barlow_twins`."""


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
    precision: Literal["auto", "float32", "bf16", "fp16"] = "auto"
    """`auto` is float32; bf16 and fp16 are autocast over float32 weights, fp16 with a loss scale."""
    compile: bool = False
    """torch.compile the model; without effect on the CPU and for CLARS, where it does not pay."""
    sync_batchnorm: bool = False
    """BatchNorm over the micro-batches of all workers of a trial; needs GPUs."""
    checkpoint_every_epochs: Count = 5
    keep_checkpoints: Count = 2
    """A trial's newest, kept while it runs beside the best; a torn one falls back to the one before."""

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
