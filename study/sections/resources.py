"""What one trial takes from the machine or cluster."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from study.sections.base import Count, Strict


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
