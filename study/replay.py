"""One trial of a study as a study file of its own, with everything that its result depends on."""

from __future__ import annotations

import textwrap
from typing import Any, Final

import yaml

from study.errors import StudyError, nearest, shown
from study.jobs import Job, trial_config
from study.look import job_of
from study.records import COMPLETE, CONFIRM, PRUNED, RUNNING, SEARCH, StudyRecord, TrialRecord
from study.spec import SCHEMA_VERSION, Spec
from study.text import WIDTH

_VERSIONS: Final = ("large-batch-study", "python", "torch", "torchvision", "numpy")  # what a result depends on
_LONGEST_NAME: Final = 64
_COMMENT: Final[Any] = {"initial_indent": "# ", "subsequent_indent": "#   ", "break_on_hyphens": False}


def best_trial(record: StudyRecord, cell: str | None) -> TrialRecord:
    """The search trial with the best value at its last epoch, of those that trained to the end.

    Raises:
        StudyError: no such cell, or no trial has trained to the end.
    """
    names = [item.name for item in record.plan.cells]
    if cell is not None and cell not in names:
        raise StudyError(f"the study '{record.name}' has no cell {shown(cell)}; {nearest(cell, names)}")
    trials = [
        trial
        for trial in record.trials
        if trial.phase == SEARCH and trial.state == COMPLETE and trial.value is not None and cell in (None, trial.cell)
    ]
    if not trials:
        where = f"of cell {cell} " if cell else ""
        raise StudyError(f"no search trial {where}of the study '{record.name}' has trained to the end yet")
    return max(trials, key=lambda trial: (trial.value or 0.0, -trial.number))


def replay_file(record: StudyRecord, trial: TrialRecord) -> str:
    """The text of a study file that runs the trial once more; comments at its head say what it is."""
    job = job_of(record, trial)
    spec = Spec.model_validate(record.spec)
    block = job.cell.block
    config = trial_config(spec, record.plan, job)
    model = next(model for model in spec.models if model.name == block.model)
    body: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "name": f"{record.name[: _LONGEST_NAME - 12]}-trial-{trial.number}",
        "question": f"What did trial {trial.number} ({job.key}) of the study {record.name} do?",
        "task": spec.to_dict()["task"],
        "data": block.data.model_dump(mode="json"),
        "model": model.model_dump(mode="json"),
        "train": {
            **spec.train.model_dump(mode="json"),
            "batch_size": block.batch_size,
            "micro_batch_size": block.micro_batch_size,
            "one_d_lr": block.one_d_lr,
            "precision": block.precision,
        },
        "arms": [trial.arm],
        "diagnostics": spec.diagnostics.model_dump(mode="json"),
        "resources": spec.resources.model_dump(mode="json"),
        "replay": {
            "params": {**job.cell.space.fixed, **trial.params},
            "seed": config.seed,
            "split_seed": config.data.split_seed,
            "phase": CONFIRM if trial.phase == CONFIRM else SEARCH,
        },
    }
    Spec.model_validate(body)
    return _header(record, trial, job) + yaml.safe_dump(body, sort_keys=False, width=110, allow_unicode=True)


def _header(record: StudyRecord, trial: TrialRecord, job: Job) -> str:
    epochs = f"{trial.epochs} of {job.cell.block.epochs} epochs"
    value = "no value" if trial.value is None else f"{record.plan.metric} {trial.value!r}"
    lines = [
        f"Trial {trial.number} ({job.key}) of the study {record.name}, begun {record.started_at}, "
        f"lock {record.plan.spec_hash[:16]}.",
        f"It was a {trial.phase} trial: {trial.state} after {epochs}, {value} at the last epoch.",
    ]
    if trial.state in (PRUNED, RUNNING):
        lines.append("This file trains it to its full length; up to where it ended then, its curve is the same.")
    if "test/accuracy" in trial.metrics:
        lines.append(f"test/accuracy {trial.metrics['test/accuracy']!r}.")
    if trial.phase == SEARCH:
        lines.append("The value is of the validation split, which searches select on: it is no performance.")
    lines.append("On a CPU of the same kind, with these versions, the result is the same bit for bit:")
    lines.append(", ".join(f"{name} {record.versions[name]}" for name in _VERSIONS if name in record.versions))
    return "".join(f"{line}\n" for text in lines for line in textwrap.wrap(text, WIDTH, **_COMMENT))
