"""One training run as the sweep hands it out: where it belongs, its seeds, and the config that the loop takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from search_spaces import Value
from search_spaces.catalog import DATA
from study import datasets
from study.arms import TASK_PREFIX
from study.plan import Cell, Plan, derive_seed
from study.records import AUDIT, CONFIRM, RERANK, SEARCH
from study.spec import Spec
from trainables.config import DataConfig, DiagnosticsConfig, TrialConfig

# Knobs that a space may search but that are no hyperparameters of the optimizer or its schedule.
_TRIAL_KNOBS = ("init", "batch_size")
_LETTERS = {SEARCH: "t", RERANK: "r", CONFIRM: "c", AUDIT: "a"}


@dataclass(frozen=True)
class Job:
    """One training run."""

    number: int  # study-wide, from 0
    cell: Cell
    repeat: int
    phase: str  # SEARCH, RERANK, CONFIRM or AUDIT
    index: int  # within its cell, repeat and phase, from 0
    params: Mapping[str, Value]  # what the search chose
    seed: int

    @property
    def key(self) -> str:
        """The job's name: stable over resumes, unique in its study."""
        letter = _LETTERS[self.phase]
        return f"{self.cell.name}/r{self.repeat}/{letter}{self.index}"

    @property
    def folder(self) -> str:
        """The key as the name of one folder."""
        return self.key.replace("/", "_")


def trial_seed(plan: Plan, repeat: int, phase: str, index: int) -> int:
    """Seed of weights and data order: fresh for each trial, the same for every arm, so that arms are paired."""
    if plan.replay is not None:
        return plan.replay.seed
    return derive_seed(plan.seed, "train", phase, repeat, index)


def split_seed(plan: Plan, cell: Cell, repeat: int) -> int:
    """Seed of the data split: the same for every arm; drawn anew in each repeat where the data set is resplit.

    A set with a test split of its own keeps one validation split.
    """
    if plan.replay is not None:
        return plan.replay.split_seed
    data = cell.block.data
    return derive_seed(plan.seed, "split", repeat if data.resplit and not DATA[data.name].ships_test else 0)


def data_config(plan: Plan, cell: Cell, repeat: int) -> DataConfig:
    """The data of a cell's trials in one repeat."""
    return datasets.data_config(cell.block.data, split_seed(plan, cell, repeat))


def trial_config(spec: Spec, plan: Plan, job: Job) -> TrialConfig:
    """Everything that the training loop needs to know about a job."""
    cell, block = job.cell, job.cell.block
    chosen = {**cell.space.fixed, **job.params}
    batch_size = int(chosen.get("batch_size", block.batch_size))
    return TrialConfig(
        arm=cell.arm,
        hyperparameters={
            name: value
            for name, value in chosen.items()
            if name not in _TRIAL_KNOBS and not name.startswith(TASK_PREFIX)
        },
        data=data_config(plan, cell, job.repeat),
        model=block.model,
        task=spec.task_name,
        task_options={
            **spec.task_options,
            **{name.removeprefix(TASK_PREFIX): chosen[name] for name in chosen if name.startswith(TASK_PREFIX)},
        },
        epochs=block.epochs,
        batch_size=batch_size,
        micro_batch_size=min(batch_size, block.micro_batch_size),
        seed=job.seed,
        init=str(chosen.get("init", spec.train.init)),
        lr_scaling=spec.train.lr_scaling,
        base_batch_size=spec.train.base_batch_size,
        one_d_lr=block.one_d_lr,
        augmentation=spec.train.augmentation,
        precision=block.precision,
        device="auto",
        label_smoothing=spec.train.label_smoothing,
        evaluate_test=job.phase == CONFIRM,
        checkpoint_every_epochs=spec.train.checkpoint_every_epochs,
        keep_checkpoints=spec.train.keep_checkpoints,
        compile=spec.train.compile,
        sync_batchnorm=spec.train.sync_batchnorm,
        workers=spec.resources.workers,
        diagnostics=DiagnosticsConfig(**spec.diagnostics.model_dump()),
    )
