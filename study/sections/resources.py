"""What one trial takes from the machine or cluster."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from study.sections.base import Count, Strict


class ResourcesSpec(Strict):
    """What one trial takes from the machine or cluster."""

    workers: Count = 1
    """Processes a trial: 1 trains in the trial's own process, more train with DDP, on one node or over several."""
    cpus_per_worker: Annotated[int, Field(ge=1)] = 1
    gpus_per_worker: Literal["auto"] | Annotated[float, Field(ge=0)] = "auto"
    """`auto`: one where the cluster has GPUs, else none. A fraction shares a GPU among trials of one worker."""
    accelerator_type: str | None = None
    """Only nodes with this GPU, by Ray's name for it: T4, A100, H100, ..."""
    max_concurrent: Literal["auto"] | Count = "auto"
    """Trials at a time; `auto` fills the cluster as it grows and shrinks, 1 makes the order of everything
    reproducible."""
    retries: Annotated[int, Field(ge=0)] = 2
    """How often a crashed trial goes on from its checkpoint before it counts as failed."""

    @field_validator("gpus_per_worker")
    @classmethod
    def _one_gpu(cls, gpus: float | str) -> float | str:
        if not isinstance(gpus, str) and gpus > 1:
            raise ValueError(
                f"a worker trains on one GPU at most, but got {gpus:g}; give the trial more workers instead"
            )
        return gpus

    @model_validator(mode="after")
    def _consistent(self) -> ResourcesSpec:
        gpus = self.gpus_per_worker
        if self.workers > 1 and not isinstance(gpus, str) and 0 < gpus < 1:
            raise ValueError(
                f"workers of one trial cannot share a GPU (nccl refuses), but got gpus_per_worker {gpus:g} for "
                f"{self.workers} workers; set it to 1 or 0, or workers to 1"
            )
        if self.accelerator_type is not None and gpus == 0:
            raise ValueError(
                f"accelerator_type {self.accelerator_type} asks for a GPU, but gpus_per_worker is 0; remove one of them"
            )
        return self
