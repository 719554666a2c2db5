"""What is measured beside training, each off unless it is asked for."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from study.sections.base import Strict

Every = Annotated[int, Field(ge=0)]
Several = Annotated[int, Field(ge=2)]


class DiagnosticsSpec(Strict):
    """Training is the same with and without. What is due every so many epochs is measured after the last one, too."""

    layer_statistics: Every = 0
    """Optimizer steps between two records of every layer's norms (LWN, LGN, LNR, trust ratio); 0: never."""
    curvature: Every = 0
    """Epochs between two measurements of the largest and the smallest eigenvalue of the Hessian; 0: never."""
    sam_sharpness: Every = 0
    """Epochs between two measurements of SAM sharpness; 0: never."""
    noise_scale: Every = 0
    """Epochs between two measurements of the gradient noise scale; 0: never. Not for barlow_twins."""
    target_accuracy: Annotated[float, Field(gt=0, le=1)] | None = None
    """Validation accuracy whose first reaching is timed, in steps, epochs and seconds."""
    items: Several = 512
    """Training samples, the same ones each time, on which curvature, sharpness and noise are measured."""
    batchnorm: Literal["train", "eval"] = "train"
    """Statistics that batch norms use there: of the batch at hand, or the running ones."""
    rho: Annotated[float, Field(gt=0)] = 0.05
    """How far SAM sharpness goes along the gradient."""
    curvature_products: Several = 20
    """Hessian-vector products that a measurement of curvature makes at most; each costs about five gradients."""
    noise_batches: Several = 8
    """Batches that the samples are divided into, to see how far their gradients differ."""

    @model_validator(mode="after")
    def _enough_items(self) -> Self:
        if self.noise_batches > self.items:
            raise ValueError(f"noise_batches ({self.noise_batches}) may be as many as items ({self.items}) at most")
        return self
