"""Claims as the study file declares them, beside the differences seen. No verdict is computed here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from study.analysis.intervals import LEVEL, Difference
from study.analysis.resolution import paired_by_repeat
from study.analysis.scores import RepeatScore
from study.plan import Plan

NO_VERDICT = (
    "This version gives no verdict: a verdict needs error rates that were measured on simulated studies with a known "
    "truth, and those are not part of this version yet."
)
_ACCURACY = ("accuracy", "test/accuracy")


@dataclass(frozen=True)
class BlockDifference:
    """Accuracy of the claim's arm minus that of `than` in one block, paired by repeat."""

    block: str
    difference: Difference | None
    note: str  # why there is no difference; empty where there is one


@dataclass(frozen=True)
class DeclaredClaim:
    """One entry of `claims` in the study file."""

    id: str
    fields: Mapping[str, object]  # as declared, `id` left out
    margin_points: float | None  # the margin, where the metric is an accuracy
    differences: tuple[BlockDifference, ...]  # empty where the claim is not about two arms' accuracy


def declared_claims(
    spec: Mapping[str, object], plan: Plan, scores: Mapping[str, Sequence[RepeatScore]]
) -> tuple[DeclaredClaim, ...]:
    """Every claim of the study file; `scores` holds each cell's repeats by cell name."""
    claims = spec.get("claims") or ()
    if not isinstance(claims, Sequence):
        return ()
    return tuple(
        _declared(claim, f"claim {index}", plan, scores)
        for index, claim in enumerate(claims, start=1)
        if isinstance(claim, Mapping)
    )


def _declared(
    claim: Mapping[str, object], default_id: str, plan: Plan, scores: Mapping[str, Sequence[RepeatScore]]
) -> DeclaredClaim:
    arm, than = claim.get("arm"), claim.get("than")
    margin, level = claim.get("margin"), claim.get("level")
    is_accuracy = claim.get("metric") in _ACCURACY
    differences: tuple[BlockDifference, ...] = ()
    if is_accuracy and isinstance(arm, str) and isinstance(than, str):
        chosen = float(level) if isinstance(level, int | float) else LEVEL
        differences = tuple(_in_block(block.label, arm, than, plan, scores, chosen) for block in plan.blocks)
    return DeclaredClaim(
        id=str(claim.get("id", default_id)),
        fields={str(key): value for key, value in claim.items() if key != "id" and value is not None},
        margin_points=100 * float(margin) if is_accuracy and isinstance(margin, int | float) else None,
        differences=differences,
    )


def _in_block(
    label: str, arm: str, than: str, plan: Plan, scores: Mapping[str, Sequence[RepeatScore]], level: float
) -> BlockDifference:
    names = {cell.arm: cell.name for cell in plan.cells if cell.block.label == label}
    missing = [name for name in (arm, than) if name not in names]
    if missing:
        return BlockDifference(label, None, f"this study has no cell of {' and '.join(missing)} here")
    difference = paired_by_repeat(scores.get(names[arm], ()), scores.get(names[than], ()), level)
    note = "" if difference else "fewer than two repeats have confirm runs of both arms: no interval"
    return BlockDifference(label, difference, note)
