"""A trial's record and what Optuna keeps of it: two user attributes, its parameters and its intermediate values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from study.jobs import Job
from study.plan import Cell
from study.records import COMPLETE, DIVERGED, FAILED, PRUNED, RUNNING, Ending, TrialRecord

BEGAN = "began"  # user attribute: number, index, seed, origin, of
ENDED = "ended"  # user attribute: outcome, value, epochs, metrics, reason, wall_seconds
STATES = {
    COMPLETE: TrialState.COMPLETE,
    DIVERGED: TrialState.COMPLETE,
    PRUNED: TrialState.PRUNED,
    FAILED: TrialState.FAIL,
}


def began(job: Job, origin: str, of: int | None) -> dict[str, Any]:
    """What is kept of a trial when it begins."""
    return {"number": job.number, "index": job.index, "seed": job.seed, "origin": origin, "of": of}


def ended(ending: Ending) -> dict[str, Any]:
    """What is kept of a trial when it ends."""
    return {
        "outcome": ending.state,
        "value": ending.value,
        "epochs": ending.epochs,
        "metrics": dict(ending.metrics),
        "reason": ending.reason,
        "wall_seconds": ending.wall_seconds,
    }


def stored_job(trial: FrozenTrial, cell: Cell, repeat: int, phase: str) -> Job | None:
    """The job that a stored trial is; None where it was cut off before anything was noted."""
    facts = trial.user_attrs.get(BEGAN)
    if facts is None:
        return None
    return Job(facts["number"], cell, repeat, phase, facts["index"], dict(trial.params), facts["seed"])


def stored_record(job: Job, trial: FrozenTrial) -> TrialRecord:
    """What is known of a stored trial."""
    facts = trial.user_attrs[BEGAN]
    curve = dict(trial.intermediate_values)
    record = replace(fresh_record(job, facts["origin"], facts["of"]), curve=curve, epochs=max(curve, default=0))
    found = trial.user_attrs.get(ENDED)
    if found is None:
        return replace(record, state=FAILED, reason="no ending was recorded") if trial.state.is_finished() else record
    return settled(record, found)


def fresh_record(job: Job, origin: str, of: int | None) -> TrialRecord:
    """A job that has just begun."""
    return TrialRecord(
        number=job.number,
        cell=job.cell.name,
        arm=job.cell.arm,
        block=job.cell.block.label,
        repeat=job.repeat,
        phase=job.phase,
        index=job.index,
        state=RUNNING,
        params=job.params,
        seed=job.seed,
        epochs=0,
        value=None,
        curve={},
        metrics={},
        reason=None,
        wall_seconds=0.0,
        origin=origin,
        of=of,
    )


def settled(record: TrialRecord, facts: Mapping[str, Any]) -> TrialRecord:
    """The record with its ending."""
    return replace(
        record,
        state=facts["outcome"],
        value=facts["value"],
        epochs=facts["epochs"],
        metrics=facts["metrics"],
        reason=facts["reason"],
        wall_seconds=facts["wall_seconds"],
    )
