"""Which diagnostics a trial has. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from trainables.fields import ConfigError, check_types, known_fields, require_known

BATCHNORM_MODES: Final = ("train", "eval")


@dataclass(frozen=True)
class DiagnosticsConfig:
    """All off by default. What is due every so many epochs is measured after the last one, too."""

    layer_statistics: int = 0
    """Optimizer steps between two records of every layer's norms; 0: never."""
    curvature: int = 0
    """Epochs between two measurements of both ends of the Hessian's spectrum; 0: never."""
    sam_sharpness: int = 0
    """Epochs between two measurements of how much the loss rises along its gradient; 0: never."""
    noise_scale: int = 0
    """Epochs between two measurements of the gradient noise scale; 0: never."""
    target_accuracy: float | None = None
    """Validation accuracy whose first reaching is timed."""
    items: int = 512
    """Training samples, the same ones each time, on which curvature, sharpness and noise are measured."""
    batchnorm: str = "train"
    """Statistics that batch norms use there: "train", of the batch at hand; "eval", the running ones."""
    rho: float = 0.05
    """How far SAM sharpness goes along the gradient."""
    curvature_products: int = 20
    """Hessian-vector products that a measurement of curvature makes at most."""
    noise_batches: int = 8
    """Batches that the samples are divided into, to see how far their gradients differ."""

    def __post_init__(self) -> None:
        check_types(self)
        least = {"layer_statistics": 0, "curvature": 0, "sam_sharpness": 0, "noise_scale": 0}
        least |= {"items": 2, "curvature_products": 2, "noise_batches": 2}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise ConfigError(f"diagnostics.{name} must be at least {bound}, but got {getattr(self, name)}")
        if self.noise_batches > self.items:
            raise ConfigError(
                "diagnostics.noise_batches <= diagnostics.items must hold, but got "
                f"(noise_batches={self.noise_batches}, items={self.items})"
            )
        require_known("diagnostics.batchnorm", self.batchnorm, BATCHNORM_MODES)
        if not 0.0 < self.rho < float("inf"):
            raise ConfigError(f"diagnostics.rho must be a positive number, but got {self.rho}")
        if self.target_accuracy is not None and not 0.0 < self.target_accuracy <= 1.0:
            raise ConfigError(
                f"diagnostics.target_accuracy must lie above 0 and be 1 at most, but got {self.target_accuracy}"
            )

    @property
    def any(self) -> bool:
        """Whether anything costs time beside training."""
        return bool(self.layer_statistics) or self.needs_samples

    @property
    def needs_samples(self) -> bool:
        """Whether anything is measured on the fixed samples."""
        return bool(self.curvature or self.sam_sharpness or self.noise_scale)

    def due(self, name: str, epoch: int, last: bool) -> bool:
        """Whether `curvature`, `sam_sharpness` or `noise_scale` is measured after this epoch (from 1)."""
        every: int = getattr(self, name)
        return every > 0 and (last or epoch % every == 0)

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> DiagnosticsConfig:
        return cls(**known_fields(cls, values, "diagnostics"))
