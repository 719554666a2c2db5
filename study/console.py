"""What the command line prints around a run: the plan before it, the paths after it."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Sequence
from pathlib import Path

from study.calibration import Calibration
from study.home import DEFAULT_HOME, StudyHome
from study.load import load_study, shipped_studies
from study.names import DEFAULT_STUDY
from study.plan import Plan
from study.progress import duration
from study.records import StudyRecord
from study.spec import Spec
from study.text import counted

WIDTH = 100
_AGAINST = {"rate": "above that of"}  # kind of claim -> between it and the other arm; "to" for the others
TWIN_SUFFIX = "-digits"  # of a shipped study's name: the same question at a size that ends within minutes


def header(spec: Spec, plan: Plan, calibration: Calibration | None = None) -> str:
    """What will be run, in a few lines; with what it was measured to cost, where it was."""
    stopping = spec.search.early_stopping
    rungs = plan.blocks[0].rungs
    how = {"asha": "ASHA", "median": "median rule"}.get(stopping.method, "")
    stop = f"{how}, rungs at epoch {', '.join(map(str, rungs))}" if rungs else "no early stopping"
    lines = [
        f"{plan.name}: {counted(len(spec.arms), 'arm')}, {counted(len(plan.blocks), 'block')}, "
        f"{counted(len(plan.cells), 'cell')}",
        *textwrap.wrap(spec.question, WIDTH - 2, initial_indent="  ", subsequent_indent="  "),
    ]
    if plan.replay is not None:
        split = "validation" if plan.replay.phase == "search" else "test"
        lines.append(
            f"  replay   one trial, seed {plan.replay.seed}, split seed {plan.replay.split_seed}, {plan.most_epochs:,} "
            f"epochs; it reads the {split} split"
        )
        return "\n".join(lines)
    on_top = [word for word, given in (("further trials", plan.equalize), ("audits", plan.audit)) if given]
    lines += [
        f"  search   {counted(plan.searches, 'search', 'es')} ({counted(len(plan.cells), 'cell')} x "
        f"{counted(plan.repeats, 'repeat')}) of {_trials(plan)}, {spec.search.method}, {stop}"
        + (f", reduction factor {stopping.reduction_factor}" if rungs else ""),
        *_beside(spec, plan),
        f"  confirm  {counted(plan.confirm_runs, 'run')} of the winners on the test split",
        f"  at most  {counted(plan.trials, 'trial')}, {plan.most_epochs:,} epochs, {plan.most_samples:,} samples"
        + (f", {calibration.hours_text} device-hours of {calibration.device}" if calibration else "")
        + (f"; {' and '.join(on_top)} on top" if on_top else ""),
    ]
    return "\n".join(lines)


def _trials(plan: Plan) -> str:
    counts = sorted({cell.trials for cell in plan.cells})
    return counted(counts[0], "trial") if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,} trials, by arm"


def _beside(spec: Spec, plan: Plan) -> list[str]:
    """What a study does only where its file asks for it."""
    lines = []
    if plan.rerank_runs:
        lines.append(
            f"  rerank   {counted(plan.rerank_runs, 'run')}: the best {plan.rerank} of a search, one fresh seed"
        )
    if plan.equalize:
        lines.append("  equalize further trials for searches that spent fewer epochs than the costliest of their block")
    if plan.audit:
        lines.append(f"  audit    {plan.audit:.0%} of the stopped trials, run to their full length")
    limits = [f"{name} {value}" for name, value in spec.budget.model_dump().items() if value is not None]
    if limits:
        lines.append(f"  budget   {', '.join(limits).replace('_', ' ')}: the study ends there with what it has")
    return lines


def dry_run(spec: Spec, plan: Plan, calibration: Calibration | None = None) -> str:
    """The whole plan: blocks, cells and every search space."""
    lines = [header(spec, plan, calibration), ""]
    for block in plan.blocks:
        sizes = block.sizes
        lines += [
            f"block {block.label}: {block.data.name}, {block.model}, batch {block.batch_size} "
            f"({counted(block.steps_per_epoch, 'step')} an epoch, micro-batch {block.micro_batch_size}), "
            f"{block.epochs} epochs, one_d_lr {block.one_d_lr}, {block.precision}",
            f"  {sizes.train} train, {sizes.validation} validation, {sizes.test} test images; "
            f"one test image is {100 / sizes.test:.2f} points",
        ]
        for cell in plan.cells:
            if cell.block is not block:
                continue
            lines.append(f"  {cell.name}")
            lines += [f"    {name:<18} {dim.describe()}" for name, dim in cell.dimensions.items()]
            fixed = ", ".join(f"{name} {value}" for name, value in cell.space.fixed.items())
            lines += textwrap.wrap(f"fixed: {fixed}", WIDTH - 4, initial_indent="    ", subsequent_indent="           ")
    for claim in spec.claims:
        against = f"over {claim.over}" if claim.than is None else f"{_AGAINST.get(claim.kind, 'to')} {claim.than}"
        lines.append(
            f"claim {claim.id}: {claim.arm} {claim.kind} {against}, {claim.metric}, margin {claim.margin:g}, "
            f"level {claim.level:g}"
        )
    lines.append(f"lock {plan.spec_hash[:16]}; nothing was run")
    return "\n".join(lines)


def study_list() -> str:
    """Shipped studies: those that end within minutes, then those at full size, whose twins are among the former."""
    names = list(shipped_studies())
    twins = [name for name in names if name.removesuffix(TWIN_SUFFIX) in names and name.endswith(TWIN_SUFFIX)]
    full = [name for name in names if f"{name}{TWIN_SUFFIX}" in twins]
    others = [name for name in names if name not in (*twins, *full)]
    return "\n".join(
        [
            "within minutes on two cores, no download:",
            *(line for name in others for line in _entry(name)),
            *(f"  {name}" for name in twins),
            "",
            f"at full size, for GPUs; NAME{TWIN_SUFFIX} is the same question on digits:",
            *(line for name in full for line in _entry(name)),
        ]
    )


def _entry(name: str) -> list[str]:
    mark = " (default)" if name == DEFAULT_STUDY else ""
    question = load_study(name).question
    return [f"  {name}{mark}", *textwrap.wrap(question, WIDTH - 6, initial_indent=" " * 6, subsequent_indent=" " * 6)]


def replayed(record: StudyRecord) -> str:
    """What a trial that was run again came to, digit by digit: the head of its file says what it was before."""
    (trial,) = record.trials
    values = [f"{key} {trial.metrics[key]!r}" for key in (record.plan.metric, "test/accuracy") if key in trial.metrics]
    return f"the trial: {', '.join([f'{trial.state} after {trial.epochs} epochs', *values])}"


def closing(home: StudyHome, record: StudyRecord, *, whole_tree: bool) -> str:
    """Cost and places, after a study."""
    of = "" if whole_tree else " (this process alone; the cluster's are not counted)"
    return "\n".join(
        [
            f"wall time {duration(record.wall_seconds)}, CPU {record.cpu_seconds:.0f} s, "
            f"peak memory {record.peak_memory_bytes / 2**30:.2f} GiB{of}",
            f"report    {home.report}",
            f"MLflow    {without_password(home.mlflow_uri)}",
            f"          open it with: {mlflow_command(home.mlflow_uri)}",
        ]
    )


def mlflow_command(uri: str) -> str:
    """How to look at the runs: a local database needs a server, a server needs a browser."""
    if uri.startswith(("http://", "https://")):
        return f"a browser at {without_password(uri)}"
    return f"mlflow ui --backend-store-uri {shlex.quote(without_password(uri))}"


def without_password(uri: str) -> str:
    """The URI with what stands between user and host left out."""
    return re.sub(r"(://[^:/@]+):[^@]*@", r"\1:***@", uri)


def resume_command(study: str, overrides: Sequence[str], home: StudyHome, address: str | None = None) -> str:
    """The command that goes on with an interrupted study."""
    words = ["python", "-m", "study.run", study, *overrides, "--resume"]
    if home.root != Path(DEFAULT_HOME).absolute():
        words += ["--home", str(home.root)]
    if address is not None:
        words += ["--address", address]
    return shlex.join(words)
