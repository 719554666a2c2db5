"""One trial as plain text: what it was given, what became of it, and where its files are."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from study.home import StudyHome
from study.jobs import Job, trial_config
from study.look import job_of
from study.plan import Plan
from study.progress import duration
from study.records import COMPLETE, CONFIRM, RUNNING, StudyRecord, TrialRecord
from study.spec import Spec
from study.storage import PATTERN, is_url, storage_of
from study.text import WIDTH, size, sparkline

_INDENT = " " * 12
_CURVES = ("train/loss", "lr_effective")  # beside the search metric
MOST_TRACEBACK_LINES = 60


def trial_text(record: StudyRecord, place: StudyHome, trial: TrialRecord, *, driven: bool, ascii_only: bool) -> str:
    """Parameters, seeds, curves, metrics, files and, where it crashed, its traceback."""
    job = job_of(record, trial)
    block = job.cell.block
    state = trial.state if trial.state != RUNNING or driven else "cut off"
    took = f" in {duration(trial.wall_seconds)}" if trial.finished else ""
    lines = [
        f"{record.name}, trial {trial.number}: {job.key} ({trial.phase}, repeat {trial.repeat})",
        _field("state", f"{state} after {trial.epochs} of {block.epochs} epochs{took}"),
    ]
    if trial.reason:
        lines.append(_field("reason", trial.reason))
    if trial.value is not None:
        lines.append(
            _field("value", f"{record.plan.metric} {trial.value:.6g} at the last epoch{_place(record, trial)}")
        )
    config = trial_config(Spec.model_validate(record.spec), record.plan, job)
    lines += [
        _field("seeds", f"{config.seed} for weights and order, {config.data.split_seed} for the data split"),
        _field("searched", _pairs(trial.params) or "nothing"),
        _field("fixed", _pairs({k: v for k, v in job.cell.space.fixed.items() if k not in trial.params}) or "nothing"),
        _field(
            "setting",
            f"{block.data.name}, {block.model}, batch size {config.batch_size:,}, lr {config.lr:.6g}, "
            f"one_d_lr {block.one_d_lr}, {block.precision}, micro-batch {config.micro_batch_size:,}",
        ),
    ]
    reports = read_reports(place.trial(job.folder) / "reports.jsonl")
    lines += _curves(record.plan, trial, reports, ascii_only=ascii_only)
    metrics = reports[-1] if reports else trial.metrics
    shown = {name: value for name, value in metrics.items() if not name.startswith("layer")}
    if shown:
        lines.append(_field("metrics", _pairs(shown)))
    lines += _files(place, job, trial)
    lines += _traceback(place.trial(job.folder) / "error.txt")
    return "\n".join(lines)


def read_reports(path: Path) -> list[dict[str, float]]:
    """A trial's reports, an epoch each; a line that is still being written is left out."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    reports = []
    for line in text.splitlines():
        try:
            report = json.loads(line)
        except ValueError:
            continue
        if isinstance(report, dict):
            reports.append(report)
    return reports


def _curves(plan: Plan, trial: TrialRecord, reports: Sequence[Mapping[str, float]], *, ascii_only: bool) -> list[str]:
    curves = {plan.metric: [trial.curve[epoch] for epoch in sorted(trial.curve)]}
    for name in _CURVES:
        curves[name] = [float(report[name]) for report in reports if name in report]
    width = max(len(name) for name in curves)
    return [
        _field(
            "curve" if name == plan.metric else "",
            f"{name:<{width}} {sparkline(values, most=40, ascii_only=ascii_only)} {values[0]:.4g} to {values[-1]:.4g}",
        )
        for name, values in curves.items()
        if values
    ]


def _place(record: StudyRecord, trial: TrialRecord) -> str:
    """Where it stands among the trials of its search that trained to the end."""
    if trial.phase == CONFIRM or trial.state != COMPLETE:
        return ""
    values = [
        other.value
        for other in record.trials
        if (other.cell, other.repeat, other.phase, other.state) == (trial.cell, trial.repeat, trial.phase, COMPLETE)
        and other.value is not None
    ]
    better = sum(value > (trial.value or 0.0) for value in values)
    return f", place {better + 1} of {len(values)} complete ones in its search"


def _files(place: StudyHome, job: Job, trial: TrialRecord) -> list[str]:
    folder = place.trial(job.folder)
    lines = [_field("folder", str(folder), wrap=False)]
    for name, what in (("reports.jsonl", "a line an epoch"), ("error.txt", "its tracebacks")):
        if (folder / name).is_file():
            lines.append(_field("", f"{name}: {what}"))
    where = storage_of(place, None, place.read_facts() or {}).of_trial(job.folder)
    if is_url(where):
        return [*lines, _field("", f"checkpoints: {where}", wrap=False)]
    checkpoints = sorted(Path(where).glob(PATTERN))
    if checkpoints:
        total = sum(path.stat().st_size for path in checkpoints if path.exists())
        what = f"{len(checkpoints)}, the newest {checkpoints[-1].name}, {size(total)}"
    else:
        what = "none yet" if not trial.finished else "none; they are dropped when a trial has ended"
    lines.append(_field("", f"checkpoints: {what}"))
    if checkpoints and Path(where).parent != folder:
        lines.append(_field("", where, wrap=False))
    return lines


def _traceback(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()
    except OSError:
        return []
    left_out = len(text) - MOST_TRACEBACK_LINES
    head = [f"  ... {left_out} lines before these are in {path}"] if left_out > 0 else []
    return ["", "traceback", *head, *(f"  {line}" for line in text[-MOST_TRACEBACK_LINES:])]


def _pairs(values: Mapping[str, object]) -> str:
    return ", ".join(
        f"{name} {value:.6g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
    )


def _field(name: str, text: str, *, wrap: bool = True) -> str:
    head = f"  {name:<10}"
    if not wrap:
        return head + text
    lines = textwrap.wrap(
        text, WIDTH, initial_indent=head, subsequent_indent=_INDENT, break_on_hyphens=False, break_long_words=False
    )
    return "\n".join(lines)
