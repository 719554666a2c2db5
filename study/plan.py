"""From a study file to a plan: blocks, cells, repeats, rungs and budgets, all before anything is spent."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from search_spaces import SLOW_START_KNOBS, Choice, Dimension, Float, Int, Space, SpaceError, Value
from search_spaces.catalog import SplitSizes, split_sizes
from study.arms import TASK_PREFIX, knobs_of_arm, space_of, task_space
from study.datasets import facts_of
from study.errors import StudyError
from study.points import Point, search_points
from study.sections import DataSpec, ReplaySpec
from study.spec import Spec

LARGEST_AUTOMATIC_MICRO_BATCH = 2048


@dataclass(frozen=True)
class Block:
    """What is held fixed for a fair comparison: cells of one block are compared with each other and nothing else."""

    label: str  # "B1077", and "/<data>/<model>" after it where a study has several
    data: DataSpec
    model: str
    batch_size: int
    micro_batch_size: int
    epochs: int
    steps_per_epoch: int
    one_d_lr: str | float
    precision: str
    sizes: SplitSizes
    classes: int
    rungs: tuple[int, ...]  # epochs at which early stopping may end a trial; empty: it never does


@dataclass(frozen=True)
class Cell:
    """One arm in one block, with the space that its search explores."""

    name: str  # "lars_warmup/B1077"
    arm: str
    block: Block
    space: Space
    trials: int  # of one search
    points: tuple[Point, ...] = ()  # which its first trials take; all of them where a grid is swept
    warm: tuple[Point, ...] = ()  # which the next trials take: an earlier study's best

    @property
    def dimensions(self) -> Mapping[str, Dimension]:
        return self.space.dimensions


@dataclass(frozen=True)
class Plan:
    """What a study will run: every cell gets the same number of trials, of the same full length."""

    name: str
    question: str
    metric: str  # what the search maximises, for example "val/accuracy"
    blocks: tuple[Block, ...]
    cells: tuple[Cell, ...]
    repeats: int
    confirm_seeds: int
    seed: int
    spec_hash: str
    rerank: int = 0  # how many of a search's best are run once more before one is confirmed
    audit: float = 0.0  # fraction of a cell's stopped trials that are run to the end after all
    equalize: bool = False  # further trials until the searches of a block have spent the same
    grid: bool = False  # every search sweeps its cell's `points`
    replay: ReplaySpec | None = None  # one trial of another study, in the place of a search

    @property
    def searches(self) -> int:
        return len(self.cells) * self.repeats

    @property
    def trials_per_search(self) -> int:
        """Of every cell alike; of the largest where a grid is swept."""
        return max(cell.trials for cell in self.cells)

    @property
    def search_trials(self) -> int:
        return self.repeats * sum(cell.trials for cell in self.cells)

    @property
    def rerank_runs(self) -> int:
        return self.repeats * sum(self.reranked(cell) for cell in self.cells)

    @property
    def confirm_runs(self) -> int:
        return self.searches * self.confirm_seeds

    @property
    def trials(self) -> int:
        """All that is planned; audits and further trials up to equal spending come on top, as the searches go."""
        return self.search_trials + self.rerank_runs + self.confirm_runs

    @property
    def most_epochs(self) -> int:
        """Epochs if no trial stops early."""
        return sum(self.most_epochs_of(cell) for cell in self.cells)

    @property
    def most_samples(self) -> int:
        """Training samples if no trial stops early (a searched batch size may drop a few more an epoch)."""
        return sum(
            self.most_epochs_of(cell) * cell.block.steps_per_epoch * cell.block.batch_size for cell in self.cells
        )

    def most_epochs_of(self, cell: Cell) -> int:
        """Epochs of one cell, over all repeats, if no trial stops early."""
        return cell.block.epochs * (cell.trials + self.reranked(cell) + self.confirm_seeds) * self.repeats

    def reranked(self, cell: Cell) -> int:
        """How many of a search's trials are re-ranked, if that many train to the end."""
        candidates = min(self.rerank, cell.trials)
        return candidates if candidates > 1 else 0

    def cell(self, name: str) -> Cell:
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, Cell]:
        return {cell.name: cell for cell in self.cells}


def derive_seed(*parts: str | int) -> int:
    """A seed in [0, 2^31) from words and numbers: stable over processes and versions, independent for other parts."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def make_plan(spec: Spec) -> Plan:
    """Lay out blocks and cells and check what only shows when they meet: sizes, ranges, rungs.

    Raises:
        StudyError: a batch larger than its training set, or a rung that no epoch is left for.
    """
    settings = list(itertools.product(spec.data_sets, spec.models, spec.one_d_lrs, spec.batch_sizes))
    several_data = len(spec.data_sets) > 1 or len(spec.models) > 1
    spaces = {arm: arm_space(spec, arm).at_length(spec.train.epochs) for arm in spec.arms}
    rungs = make_rungs(spec, spaces)
    blocks: list[Block] = []
    cells: list[Cell] = []
    for data, model, one_d_lr, batch in settings:
        facts = facts_of(data)
        sizes = split_sizes(facts.items, data.validation_fraction, data.test_fraction, facts.test_items)
        batch_size = sizes.train if batch == "full" else int(batch)
        _check_batch(batch_size, sizes, data.name, "train.batch_size")
        suffix = f"/{data.name}/{model.name}" if several_data else ""
        suffix += f"/{one_d_lr}" if len(spec.one_d_lrs) > 1 else ""
        micro = spec.train.micro_batch_size
        block = Block(
            label=f"B{batch_size}{suffix}",
            data=data,
            model=model.name,
            batch_size=batch_size,
            micro_batch_size=min(batch_size, LARGEST_AUTOMATIC_MICRO_BATCH if micro == "auto" else micro),
            epochs=spec.train.epochs,
            steps_per_epoch=sizes.train // batch_size,
            one_d_lr=one_d_lr,
            precision="float32" if spec.train.precision == "auto" else spec.train.precision,
            sizes=sizes,
            classes=facts.classes,
            rungs=rungs,
        )
        blocks.append(block)
        for arm in spec.arms:
            space = spaces[arm]
            for size in _searched_batch_sizes(space):
                _check_batch(size, sizes, data.name, f"space.{arm}.batch_size")
            label = f"Bany{suffix}" if "batch_size" in space.dimensions else block.label
            cells.append(Cell(f"{arm}/{label}", arm, block, space, *search_points(spec, arm, space)))
    labels = [block.label for block in blocks]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise StudyError(
            f"train.batch_size gives block {twice[0]} twice; 'full' is the whole training set, leave one out"
        )
    return Plan(
        name=spec.name,
        question=spec.question,
        metric=spec.search.metric,
        blocks=tuple(blocks),
        cells=tuple(cells),
        repeats=1 if spec.replay else spec.search.repeats,
        confirm_seeds=int(spec.replay.phase == "confirm") if spec.replay else spec.confirm.seeds,
        seed=spec.search.seed,
        spec_hash=spec.digest(),
        rerank=spec.confirm.rerank,
        audit=spec.search.early_stopping.audit,
        equalize=spec.search.equalize,
        grid=spec.search.method == "grid",
        replay=spec.replay,
    )


def arm_space(spec: Spec, arm: str) -> Space:
    """The arm's named space with the study file's changes: those for `all` arms first, then the arm's own."""
    if spec.replay is not None:
        return Space({}, spec.replay.params)
    space = space_of(arm).changed(task_space(spec.task_name))
    takes = knobs_of_arm(arm)
    shared = {
        knob: change
        for knob, change in spec.space_changes("all").items()
        if knob in takes or knob.startswith(TASK_PREFIX)
    }
    try:
        return space.changed(shared).changed(spec.space_changes(arm)).conditioned()
    except SpaceError as error:
        raise StudyError(f"space.{arm}: {error}") from None


def make_rungs(spec: Spec, spaces: Mapping[str, Space]) -> tuple[int, ...]:
    """Epochs of the rungs: common to all cells, the first after the longest warm-up or delay that any arm allows."""
    stopping = spec.search.early_stopping
    if stopping.method == "none":
        return ()
    slow = max((_longest_slow_start(space) for space in spaces.values()), default=0.0)
    epochs = spec.train.epochs
    earliest = math.floor(slow) + 1
    first = earliest if stopping.first_rung == "auto" else stopping.first_rung
    if first < earliest:
        raise StudyError(
            f"search.early_stopping.first_rung must lie after the longest warm-up or delay of any arm "
            f"({slow:g} epochs), but got {first}; set it to {earliest} or more, or narrow warmup_epochs and "
            "delay_epochs in 'space'"
        )
    if first >= epochs:
        raise StudyError(
            f"early stopping has no room: the first rung would be epoch {first} of {epochs}; train longer, "
            "narrow warmup_epochs and delay_epochs in 'space', or set search.early_stopping.method=none"
        )
    rungs = []
    while first < epochs:
        rungs.append(first)
        first *= stopping.reduction_factor
    return tuple(rungs)


def _longest_slow_start(space: Space) -> float:
    longest = 0.0
    for knob in SLOW_START_KNOBS:
        values: Sequence[Value] = ()
        match space.dimensions.get(knob):
            case Float(high=high) | Int(high=high):
                values = (high,)
            case Choice(values=choices):
                values = choices
            case None:
                values = (space.fixed[knob],) if knob in space.fixed else ()
        longest = max([longest, *(float(value) for value in values)])
    return longest


def _searched_batch_sizes(space: Space) -> tuple[int, ...]:
    match space.dimensions.get("batch_size"):
        case Int(high=high):
            return (high,)
        case Choice(values=choices):
            return tuple(int(value) for value in choices)
        case _:
            return (int(space.fixed["batch_size"]),) if "batch_size" in space.fixed else ()


def _check_batch(batch_size: int, sizes: SplitSizes, data: str, where: str) -> None:
    if batch_size > sizes.train:
        raise StudyError(
            f"{where} must be at most the training set, but got {batch_size} where {data} has {sizes.train} training "
            f"images ({sizes.validation} more validate, {sizes.test} test); use a smaller number or 'full'"
        )
