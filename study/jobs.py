"""One training run as the sweep hands it out: where it belongs, its seeds, and the config that the loop takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from search_spaces import Value
from study.plan import Cell, Plan, derive_seed
from study.records import CONFIRM, SEARCH
from study.spec import Spec
from trainables.config import DataConfig, TrialConfig

# Knobs that a space may search but that are no hyperparameters of the optimizer or its schedule.
_TRIAL_KNOBS = ("init", "batch_size")


@dataclass(frozen=True)
class Job:
    """One training run."""

    number: int  # study-wide, from 0
    cell: Cell
    repeat: int
    phase: str  # SEARCH or CONFIRM
    index: int  # within its cell, repeat and phase, from 0
    params: Mapping[str, Value]  # what the search chose
    seed: int

    @property
    def key(self) -> str:
        """The job's name: stable over resumes, unique in its study."""
        letter = {SEARCH: "t", CONFIRM: "c"}[self.phase]
        return f"{self.cell.name}/r{self.repeat}/{letter}{self.index}"

    @property
    def folder(self) -> str:
        """The key as the name of one folder."""
        return self.key.replace("/", "_")


def trial_seed(plan: Plan, repeat: int, phase: str, index: int) -> int:
    """Seed of weights and data order: fresh for each trial, the same for every arm, so that arms are paired."""
    return derive_seed(plan.seed, "train", phase, repeat, index)


def split_seed(plan: Plan, cell: Cell, repeat: int) -> int:
    """Seed of the data split: the same for every arm; drawn anew in each repeat where the data set is resplit."""
    return derive_seed(plan.seed, "split", repeat if cell.block.data.resplit else 0)


def trial_config(spec: Spec, plan: Plan, job: Job) -> TrialConfig:
    """Everything that the training loop needs to know about a job."""
    cell, block = job.cell, job.cell.block
    chosen = {**cell.space.fixed, **job.params}
    batch_size = int(chosen.get("batch_size", block.batch_size))
    return TrialConfig(
        arm=cell.arm,
        hyperparameters={name: value for name, value in chosen.items() if name not in _TRIAL_KNOBS},
        data=DataConfig(
            name=block.data.name,
            root=block.data.root,
            split_seed=split_seed(plan, cell, job.repeat),
            validation_fraction=block.data.validation_fraction,
            test_fraction=block.data.test_fraction,
        ),
        model=block.model,
        task=spec.task,
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
    )
