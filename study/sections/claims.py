"""The claims that a study is there to test."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from study.sections.base import Strict


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
