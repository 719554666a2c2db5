"""What one trial is: a frozen, JSON-able description with a digest. Free of torch, so checked fast."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Scalar = float | int | str | bool

LR_SCALINGS: Final = ("linear", "sqrt", "none")
PRECISIONS: Final = ("float32", "bf16")
DEVICES: Final = ("cpu", "cuda", "auto")
ONE_D_LR_NAMES: Final = ("raw", "capped")


class ConfigError(ValueError):
    """A trial's description breaks a rule; the message states the rule, then the value."""


@dataclass(frozen=True)
class DataConfig:
    """Which data set, and how it is split."""

    name: str = "digits"
    root: str | None = None
    """Folder of the files; None for sets that need none."""
    split_seed: int = 0
    validation_fraction: float = 0.2
    """Of all items; split out of the training items where the set ships a test split of its own."""
    test_fraction: float = 0.2
    """Of all items; without effect where the set ships a test split of its own."""
    options: Mapping[str, Scalar] = field(default_factory=dict)
    """What only this data set knows, such as the shape of `synthetic`."""

    def __post_init__(self) -> None:
        _check_types(self)
        for name in ("validation_fraction", "test_fraction"):
            value = getattr(self, name)
            if not 0.0 < value < 1.0:
                raise ConfigError(f"data.{name} must lie between 0 and 1, but got {value}")
        if self.validation_fraction + self.test_fraction >= 1.0:
            raise ConfigError(
                "data.validation_fraction + data.test_fraction must leave items to train on, but got "
                f"{self.validation_fraction} + {self.test_fraction}"
            )
        object.__setattr__(self, "options", _plain_scalars("data.options", self.options))

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> DataConfig:
        return cls(**_known_fields(cls, values, "data"))


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
    """At most this many samples per forward and backward pass; BatchNorm sees one micro-batch at a time."""
    seed: int
    """Of weights, order and augmentation."""
    init: str = "default"
    lr_scaling: str = "linear"
    base_batch_size: int = 256
    one_d_lr: str | float = "capped"
    augmentation: str = "none"
    precision: str = "float32"
    device: str = "cpu"
    label_smoothing: float = 0.0
    """In training only; validation and test losses are plain."""
    evaluate_test: bool = False
    """Read the test split once, after the last epoch."""
    checkpoint_every_epochs: int = 1

    def __post_init__(self) -> None:
        _check_types(self)
        for name in (
            "epochs",
            "batch_size",
            "micro_batch_size",
            "base_batch_size",
            "checkpoint_every_epochs",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, but got {getattr(self, name)}")
        if self.micro_batch_size > self.batch_size:
            raise ConfigError(
                "micro_batch_size <= batch_size must hold, but got "
                f"(micro_batch_size={self.micro_batch_size}, batch_size={self.batch_size})"
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
        object.__setattr__(self, "hyperparameters", _plain_scalars("hyperparameters", self.hyperparameters))
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
        known = _known_fields(cls, values, "trial")
        data = known.get("data")
        if isinstance(data, Mapping):
            known["data"] = DataConfig.from_dict(data)
        return cls(**known)

    def digest(self) -> str:
        """sha256 of the canonical JSON: the identity of a trial in its checkpoints."""
        canonical = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(canonical.encode()).hexdigest()


def require_known(what: str, name: str, allowed: tuple[str, ...]) -> None:
    """Raise ConfigError, with the nearest name where there is one, unless `name` is allowed."""
    if name in allowed:
        return
    near = difflib.get_close_matches(name, allowed, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"{what} must be one of {', '.join(allowed)}, but got {name!r}{hint}")


def _known_fields(cls: type, values: Mapping[str, object], what: str) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{what} must be a mapping, but got {type(values).__name__}")
    fields = {item.name: item for item in dataclasses.fields(cls)}
    for name in values:
        require_known(f"a field of {what}", str(name), tuple(fields))
    missing = [
        name
        for name, item in fields.items()
        if name not in values and item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"{what} lacks {', '.join(missing)}")
    return dict(values)


_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "str": (str,),
    "str | None": (str, type(None)),
    "int": (int,),
    "float": (float, int),
    "bool": (bool,),
    "str | float": (str, float, int),
    "DataConfig": (DataConfig,),
    "Mapping[str, Scalar]": (Mapping,),
}


def _check_types(config: DataConfig | TrialConfig) -> None:
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        allowed = _TYPES[str(item.type)]
        # bool is an int to Python, never to a study
        if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
            raise ConfigError(f"{item.name} must be of type {item.type}, but got {value!r} ({type(value).__name__})")
        if float in allowed and isinstance(value, (int, float)):
            object.__setattr__(config, item.name, float(value))


def _plain_scalars(what: str, values: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Python's own scalars, sorted by name: numpy's would break torch.load(weights_only=True)."""
    plain: dict[str, Scalar] = {}
    for name, value in sorted(values.items()):
        if not isinstance(value, (bool, int, float, str)) and hasattr(value, "item"):
            value = value.item()
        elif isinstance(value, float):
            value = float(value)
        if not isinstance(value, (bool, int, float, str)):
            raise ConfigError(f"{what}.{name} must be a number, a string or a boolean, but got {value!r}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{what}.{name} must be finite, but got {value}")
        plain[name] = value
    return plain
