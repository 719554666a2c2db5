"""What the report's template shows, as plain rows of text and numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import yaml

from search_spaces import Dimension, Value
from search_spaces.catalog import DATA
from study.analysis.summary import StudySummary
from study.plan import Block, Plan
from study.records import DIVERGED, FAILED, PRUNED, RUNNING, StudyRecord, TrialRecord
from study.reporting.wording import (
    DIVERGENCE_NOTE,
    SEARCH_VALUE_NOTE,
    duration_text,
    hours_text,
    listed,
    moment_text,
    share_text,
)

MOST_ROWS = 200
_FURTHER = (("test/knn_accuracy", "kNN"), ("test/top5_accuracy", "top 5"))
_STATES = (
    (FAILED, "Failed", "A crash, not a result: it fills no quota and says nothing about its configuration."),
    (DIVERGED, "Diverged", "The loss or the parameters were not finite: a result, counted with chance accuracy."),
    (
        PRUNED,
        "Stopped early",
        "Worse than its cell's other trials at a rung, or ended by the user; told to the sampler as pruned.",
    ),
    (RUNNING, "Running", "Had not come to an end when this report was written."),
)


@dataclass(frozen=True)
class TrialGroup:
    """Trials that came to one of the ends which need a word."""

    state: str
    title: str
    meaning: str
    trials: tuple[TrialRecord, ...]  # at most MOST_ROWS
    count: int


@dataclass(frozen=True)
class SpaceRow:
    """One knob with the range, or the value, that these arms share."""

    knob: str
    range: str
    arms: str
    why: str
    source: str


def facts(record: StudyRecord, summary: StudySummary) -> list[tuple[str, str, str]]:
    """What the study cost, at a glance: name, value, remark."""
    counts, plan = summary.counts, summary.plan
    states = [
        f"{number:,} {word}"
        for number, word in (
            (counts.complete, "complete"),
            (counts.pruned, "stopped early"),
            (counts.diverged, "diverged"),
            (counts.failed, "failed"),
            (counts.running, "running"),
        )
        if number
    ]
    spent = share_text(summary.epochs_spent, summary.epochs_full)
    memory = record.peak_memory_bytes / 2**30
    return [
        (
            "Trials",
            f"{counts.ended:,}",
            f"of {plan.trials:,} planned{_beyond(record)}: {', '.join(states) or 'none started'}",
        ),
        ("Epochs", f"{summary.epochs_spent:,}", f"of {summary.epochs_full:,} if none stopped early ({spent})"),
        ("Wall time", duration_text(record.wall_seconds), f"from {moment_text(record.started_at)}"),
        ("CPU time", duration_text(record.cpu_seconds), "over the whole process tree"),
        ("Peak memory", f"{memory:.2f} GiB", "proportional set size over the process tree"),
        *_device_hours(record),
        ("Repeats", f"{plan.repeats}", "independent searches of each cell: the unit of inference"),
    ]


def _beyond(record: StudyRecord) -> str:
    """Trials that are no part of the plan."""
    more = record.most_trials - record.plan.trials + sum(trial.state == FAILED for trial in record.trials)
    return f" and {more:,} beyond the plan (audits, top-ups, replacements)" if more else ""


def _device_hours(record: StudyRecord) -> list[tuple[str, str, str]]:
    if not record.device_seconds:
        return []
    spent = sum(record.device_seconds.values()) / 3600
    return [("Device-hours", hours_text(spent), "wall time of all trials, times the devices that each holds")]


def further_heads(summary: StudySummary) -> list[tuple[str, str]]:
    """Report keys of the other test accuracies that any cell has, with the heads of their columns."""
    return [(key, head) for key, head in _FURTHER if any(key in cell.further for cell in summary.cells)]


def block_rows(blocks: Sequence[Block]) -> list[tuple[str, list[str]]]:
    """What each block holds fixed: one row per setting, one column per block."""
    settings = {
        "data": [block.data.name for block in blocks],
        "train / validation / test": [f"{b.sizes.train:,} / {b.sizes.validation:,} / {b.sizes.test:,}" for b in blocks],
        "model": [block.model for block in blocks],
        "batch size": [f"{block.batch_size:,}" for block in blocks],
        "micro-batch (BatchNorm)": [f"{block.micro_batch_size:,}" for block in blocks],
        "epochs": [f"{block.epochs:,}" for block in blocks],
        "steps an epoch": [f"{block.steps_per_epoch:,}" for block in blocks],
        "one_d_lr": [str(block.one_d_lr) for block in blocks],
        "precision": [block.precision for block in blocks],
        "rungs (epochs)": [", ".join(map(str, block.rungs)) or "none" for block in blocks],
    }
    return list(settings.items())


def budget(plan: Plan, spec: Mapping[str, object]) -> list[str]:
    """How every cell is searched and confirmed, in sentences."""
    search = spec.get("search")
    search = search if isinstance(search, Mapping) else {}
    stopping = search.get("early_stopping")
    method = stopping.get("method", "none") if isinstance(stopping, Mapping) else "none"
    each = "search" if plan.repeats == 1 else "independent searches"
    runs = "one confirm run" if plan.confirm_seeds == 1 else f"{plan.confirm_seeds} confirm runs"
    stop = (
        "No trial is stopped early."
        if method == "none"
        else f"Early stopping ({method}) compares trials of one search, at the same rungs in every cell of a block."
    )
    return [
        f"Every cell ({len(plan.cells)} in all) gets {plan.repeats} {each} of {trials_text(plan)} "
        f"({search.get('method', 'unknown')}, seed {plan.seed}) and, for each winner, {runs} with fresh seeds: "
        f"{plan.trials:,} trials, {plan.most_epochs:,} epochs if none stopped early.",
        f"A search maximises {plan.metric} at the last epoch. Only confirm runs read the test split. {stop}",
    ]


def trials_text(plan: Plan) -> str:
    """Trials of one search; of a grid they follow from each arm's listed values."""
    counts = sorted({cell.trials for cell in plan.cells})
    return f"{counts[0]} trials" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} trials, by arm,"


def space_rows(plan: Plan) -> tuple[list[SpaceRow], list[SpaceRow]]:
    """Searched and fixed knobs; arms that share a knob's range share its row."""
    searched: dict[tuple[str, Dimension], list[str]] = {}
    fixed: dict[tuple[str, Value], list[str]] = {}
    for cell in plan.cells:
        for knob, dimension in cell.space.dimensions.items():
            searched.setdefault((knob, dimension), []).append(cell.arm)
        for knob, value in cell.space.fixed.items():
            fixed.setdefault((knob, value), []).append(cell.arm)
    count = len({cell.arm for cell in plan.cells})
    return (
        [
            SpaceRow(knob, dimension.describe(), _arms(arms, count), dimension.why, dimension.source)
            for (knob, dimension), arms in sorted(searched.items(), key=lambda item: item[0][0])
        ],
        [
            SpaceRow(knob, value_text(value), _arms(arms, count), "", "")
            for (knob, value), arms in sorted(fixed.items(), key=lambda item: item[0][0])
        ],
    )


def trial_groups(record: StudyRecord) -> list[TrialGroup]:
    """Trials that failed, diverged, were stopped or still run; states without a trial are left out."""
    groups = []
    for state, title, meaning in _STATES:
        trials = [trial for trial in record.trials if trial.state == state]
        if trials:
            groups.append(TrialGroup(state, title, meaning, tuple(trials[:MOST_ROWS]), len(trials)))
    return groups


def limits(record: StudyRecord, summary: StudySummary) -> list[str]:
    """What the study cannot show, whatever its numbers."""
    plan = summary.plan
    blocks = plan.blocks
    settings = sorted({f"{block.model} on {block.data.name}" for block in blocks})
    found = []
    if summary.single_repeat:
        found.append(
            "There is one repeat: every statement is for the configurations found, not for the arms. Fresh training "
            "seeds alone do not show how much luck the search had."
        )
    else:
        found.append(
            f"An interval is over {plan.repeats} repeats, each a whole search with its confirm runs: it holds tuning "
            "luck as well as seeds. It speaks of this search method with this budget."
        )
        found.append(
            "Each interval stands alone at its level. With many cells some will miss; overlap of two intervals is no "
            "test of their difference, and neither is its absence."
        )
    resplit = {b.data.name for b in blocks if b.data.resplit and not DATA[b.data.name].ships_test}
    if resplit and not summary.single_repeat:
        found.append(
            f"{listed(sorted(resplit))} ships no test split: every repeat draws new train, validation and test images, "
            "and an interval holds that spread too."
        )
    found.append(f"Nothing here reaches beyond {listed(settings)}, this training length and these spaces.")
    found.append(SEARCH_VALUE_NOTE)
    found.append(DIVERGENCE_NOTE)
    if any(block.rungs for block in blocks):
        found.append(
            "Early stopping may end a trial that would have won. It cannot end one before its warm-up or delay is over."
        )
    if not summary.finished:
        found.append("The study is unfinished, and what came to a result first need not be typical of the rest.")
    return found


def spec_yaml(record: StudyRecord) -> str:
    """The study file after overrides."""
    return yaml.safe_dump(_plain(record.spec), sort_keys=False, allow_unicode=True, width=100)


def value_text(value: Value) -> str:
    """A hyperparameter's value as one would write it: three significant digits, `true` and `false` as in YAML."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def field_text(value: object) -> str:
    """A field of a claim as it stands in the study file."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _arms(arms: Sequence[str], count: int) -> str:
    names = list(dict.fromkeys(arms))
    return "all arms" if len(names) == count and count > 1 else ", ".join(names)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
