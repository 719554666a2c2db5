"""What one trial is: a frozen, JSON-able description with a digest. Free of torch, so checked fast."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from trainables.diagnostics.config import DiagnosticsConfig
from trainables.fields import ConfigError, Scalar, check_types, known_fields, plain_scalars, require_known

__all__ = ["ConfigError", "DataConfig", "DiagnosticsConfig", "Scalar", "TrialConfig", "require_known"]

LR_SCALINGS: Final = ("linear", "sqrt", "none")
PRECISIONS: Final = ("float32", "bf16", "fp16")
DEVICES: Final = ("cpu", "cuda", "auto")
ONE_D_LR_NAMES: Final = ("raw", "capped")


@dataclass(frozen=True)
class DataConfig:
    """Which data set, and how it is split."""

    name: str = "digits"
    root: str | None = None
    """Folder of the files; None for sets that need none."""
    download: bool = False
    """Fetch the files into `root` where they are missing; for sets that can be fetched."""
    split_seed: int = 0
    validation_fraction: float = 0.2
    """Of all items; split out of the training items where the set ships a test split of its own."""
    test_fraction: float = 0.2
    """Of all items; without effect where the set ships a test split of its own."""
    options: Mapping[str, Scalar] = field(default_factory=dict)
    """What only this data set knows, such as the shape of `synthetic`."""

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("validation_fraction", "test_fraction"):
            value = getattr(self, name)
            if not 0.0 < value < 1.0:
                raise ConfigError(f"data.{name} must lie between 0 and 1, but got {value}")
        if self.validation_fraction + self.test_fraction >= 1.0:
            raise ConfigError(
                "data.validation_fraction + data.test_fraction must leave items to train on, but got "
                f"{self.validation_fraction} + {self.test_fraction}"
            )
        object.__setattr__(self, "options", plain_scalars("data.options", self.options))

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> DataConfig:
        return cls(**known_fields(cls, values, "data"))


@dataclass(frozen=True)
class TrialConfig:
    """One training run. Two equal configs give equal results on one machine (CPU: bit for bit)."""

    arm: str
    hyperparameters: Mapping[str, Scalar]
    """With `base_lr`; the rest goes to the arm as it is."""
    data: DataConfig
    model: str
    task: str
    epochs: int
    batch_size: int
    """Global: samples per optimizer step."""
    micro_batch_size: int
    """At most this many samples per forward and backward pass of a worker; BatchNorm sees one micro-batch at a time."""
    seed: int
    """Of weights, order and augmentation."""
    init: str = "default"
    lr_scaling: str = "linear"
    base_batch_size: int = 256
    one_d_lr: str | float = "capped"
    augmentation: str = "none"
    precision: str = "float32"
    """Of forward and backward passes; weights and optimizer stay in float32. fp16 scales its losses."""
    compile: bool = False
    """torch.compile the model in training; without effect on the CPU and for CLARS, where it does not pay."""
    sync_batchnorm: bool = False
    """BatchNorm over the micro-batches of all workers; needs GPUs."""
    workers: int = 1
    """Processes that train together, each on its share of every batch."""
    task_options: Mapping[str, Scalar] = field(default_factory=dict)
    """What only this task knows, such as the projector of `barlow_twins`."""
    device: str = "cpu"
    label_smoothing: float = 0.0
    """In training only; validation and test losses are plain."""
    evaluate_test: bool = False
    """Read the test split once, after the last epoch."""
    checkpoint_every_epochs: int = 1
    keep_checkpoints: int = 2
    """The newest to keep, beside the best by val/accuracy; a torn file falls back to the one before."""
    diagnostics: DiagnosticsConfig = field(default_factory=DiagnosticsConfig)
    """What is measured beside training; changes nothing of it."""

    def __post_init__(self) -> None:
        check_types(self, DataConfig, DiagnosticsConfig)
        for name in (
            "epochs",
            "batch_size",
            "micro_batch_size",
            "base_batch_size",
            "checkpoint_every_epochs",
            "keep_checkpoints",
            "workers",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, but got {getattr(self, name)}")
        if self.micro_batch_size > self.batch_size:
            raise ConfigError(
                "micro_batch_size <= batch_size must hold, but got "
                f"(micro_batch_size={self.micro_batch_size}, batch_size={self.batch_size})"
            )
        if self.workers > self.batch_size:
            raise ConfigError(
                f"workers <= batch_size must hold, but got (workers={self.workers}, batch_size={self.batch_size})"
            )
        if self.seed < 0:
            raise ConfigError(f"seed must be at least 0, but got {self.seed}")
        if not 0.0 <= self.label_smoothing < 1.0:
            raise ConfigError(f"label_smoothing must lie in [0, 1), but got {self.label_smoothing}")
        for name, allowed in (("lr_scaling", LR_SCALINGS), ("precision", PRECISIONS), ("device", DEVICES)):
            require_known(name, getattr(self, name), allowed)
        if isinstance(self.one_d_lr, str):
            require_known("one_d_lr", self.one_d_lr, (*ONE_D_LR_NAMES, "a positive number"))
        elif not (math.isfinite(self.one_d_lr) and self.one_d_lr > 0):
            raise ConfigError(f"one_d_lr must be 'raw', 'capped' or a positive factor of lr, but got {self.one_d_lr}")
        object.__setattr__(self, "hyperparameters", plain_scalars("hyperparameters", self.hyperparameters))
        object.__setattr__(self, "task_options", plain_scalars("task_options", self.task_options))
        base_lr = self.hyperparameters.get("base_lr")
        if isinstance(base_lr, bool) or not isinstance(base_lr, (int, float)) or not base_lr > 0:
            raise ConfigError(f"hyperparameters need base_lr, a positive number, but got {base_lr!r}")
        if "init" in self.hyperparameters:
            raise ConfigError("init is a field of the trial, not one of its hyperparameters")

    @property
    def lr(self) -> float:
        """Target learning rate after batch-size scaling."""
        ratio = self.batch_size / self.base_batch_size
        scale = {"linear": ratio, "sqrt": math.sqrt(ratio), "none": 1.0}[self.lr_scaling]
        return float(self.hyperparameters["base_lr"]) * scale

    def to_dict(self) -> dict[str, Any]:
        """Nested dict of JSON's own types; `from_dict` gives the config back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> TrialConfig:
        """Strict inverse of `to_dict`: unknown, missing and wrongly typed fields raise ConfigError."""
        known = known_fields(cls, values, "trial")
        data = known.get("data")
        if isinstance(data, Mapping):
            known["data"] = DataConfig.from_dict(data)
        diagnostics = known.get("diagnostics")
        if isinstance(diagnostics, Mapping):
            known["diagnostics"] = DiagnosticsConfig.from_dict(diagnostics)
        return cls(**known)

    def digest(self) -> str:
        """sha256 of the canonical JSON: the identity of a trial in its checkpoints."""
        canonical = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(canonical.encode()).hexdigest()
