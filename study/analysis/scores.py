"""Test accuracy of a cell per repeat, and the winner that each repeat's search found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from search_spaces import Dimension, Value
from study.plan import Block, Cell
from study.records import COMPLETE, CONFIRM, DIVERGED, RERANK, SEARCH, StudyRecord, TrialRecord
from study.selection import of_newest_winner, selected

OUTER_FRACTION = 0.1
FURTHER = {"test/knn_accuracy": 1, "test/top5_accuracy": 5}  # key -> answers that a guess has


@dataclass(frozen=True)
class RepeatScore:
    """What the confirm runs of one repeat scored on the test split, averaged over their seeds."""

    repeat: int
    correct: float  # mean over the runs; need not be whole
    items: float
    runs: int  # complete and diverged ones
    diverged: int

    @property
    def points(self) -> float:
        return 100 * self.correct / self.items


@dataclass(frozen=True)
class Winner:
    """The configuration that one repeat's search selected. `search_value` selected it and is too good to report."""

    repeat: int
    params: Mapping[str, Value]
    search_value: float | None
    number: int | None  # of the search trial
    edges: Mapping[str, str]  # knobs in the outer 10% of their range: base_lr -> "at the high end"


def repeat_scores(record: StudyRecord, cell: Cell) -> tuple[RepeatScore, ...]:
    """One score per repeat that has a confirm run to show, in the order of repeats.

    A diverged run counts with chance accuracy, whatever else it reported. A failed one says nothing about accuracy
    and is left out; the cell is then short of its quota.
    """
    by_repeat: dict[int, list[tuple[float, float, bool]]] = {}
    for trial in confirming(record, cell):
        counts = _correct_of(trial, cell.block)
        if counts is not None:
            by_repeat.setdefault(trial.repeat, []).append((*counts, trial.state == DIVERGED))
    return tuple(
        RepeatScore(
            repeat=repeat,
            correct=sum(correct for correct, _, _ in runs) / len(runs),
            items=sum(items for _, items, _ in runs) / len(runs),
            runs=len(runs),
            diverged=sum(diverged for _, _, diverged in runs),
        )
        for repeat, runs in sorted(by_repeat.items())
    )


def further_scores(record: StudyRecord, cell: Cell) -> dict[str, float]:
    """Other accuracies of the confirm runs on the test split, in points: the mean over repeats of that over seeds.

    As in `repeat_scores` a diverged run counts with chance, and a failed one is left out.
    """
    found = {}
    for key, guesses in FURTHER.items():
        by_repeat: dict[int, list[float]] = {}
        runs = [trial for trial in confirming(record, cell) if trial.state in (COMPLETE, DIVERGED)]
        if not any(key in trial.metrics for trial in runs):
            continue
        for trial in runs:
            chance = min(guesses / cell.block.classes, 1.0) if cell.block.classes else 0.0
            value = chance if trial.state == DIVERGED else trial.metrics.get(key)
            if value is not None:
                by_repeat.setdefault(trial.repeat, []).append(100 * value)
        found[key] = sum(sum(own) / len(own) for own in by_repeat.values()) / len(by_repeat)
    return found


def winners(record: StudyRecord, cell: Cell) -> tuple[Winner, ...]:
    """The selected configuration of each repeat that has one.

    Where confirm runs exist, they say which configuration was selected; before that, it is the search's winner so far.
    """
    found = []
    for repeat in range(record.plan.repeats):
        trials = [trial for trial in record.of_cell(cell.name, SEARCH) if trial.repeat == repeat]
        reruns = [trial for trial in record.of_cell(cell.name, RERANK) if trial.repeat == repeat]
        confirms = [trial for trial in confirming(record, cell) if trial.repeat == repeat]
        best = selected(trials, reruns, record.plan.rerank)
        if confirms:
            params = confirms[0].params
            if best is None or dict(best.params) != dict(params):
                best = next((trial for trial in trials if dict(trial.params) == dict(params)), None)
        elif best is not None:
            params = best.params
        else:
            continue
        edges = edge_knobs(params, cell.dimensions)
        found.append(Winner(repeat, params, best.value if best else None, best.number if best else None, edges))
    return tuple(found)


def confirming(record: StudyRecord, cell: Cell) -> list[TrialRecord]:
    """The confirm runs that count: of each repeat those of its newest winner, in order of start."""
    runs = record.of_cell(cell.name, CONFIRM)
    repeats = {run.repeat for run in runs}
    counted = [run for repeat in repeats for run in of_newest_winner([r for r in runs if r.repeat == repeat])]
    return sorted(counted, key=lambda run: run.number)


def edge_knobs(params: Mapping[str, Value], dimensions: Mapping[str, Dimension]) -> dict[str, str]:
    """Which knobs lie in the outer 10% of their range, and where, on the scale that was searched.

    Of listed numbers (the axis of a grid) the first and the last lie there: nothing beyond them was tried.
    """
    found = {}
    for knob, dimension in dimensions.items():
        value = params.get(knob)
        if value is None:
            continue
        if not dimension.contains(value):
            found[knob] = "outside the range"
            continue
        position = dimension.position(value)
        if position is not None and position < OUTER_FRACTION:
            found[knob] = "at the low end"
        elif position is not None and position > 1 - OUTER_FRACTION:
            found[knob] = "at the high end"
    return found


def _correct_of(trial: TrialRecord, block: Block) -> tuple[float, float] | None:
    items = float(trial.metrics.get("test/items", block.sizes.test))
    if items <= 0:
        return None
    if trial.state == DIVERGED:
        return (items / block.classes if block.classes else 0.0), items
    if trial.state != COMPLETE:
        return None
    if "test/correct" in trial.metrics:
        return float(trial.metrics["test/correct"]), items
    if "test/accuracy" in trial.metrics:
        return float(trial.metrics["test/accuracy"]) * items, items
    return None
