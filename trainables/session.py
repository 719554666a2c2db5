"""Everything one trial trains with, built from its config alone, and its state for checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from optim.arm import Arm
from optim.registry import build_arm
from trainables.augment import Augmentation, build_augmentation
from trainables.checkpoint import Checkpoint
from trainables.config import ConfigError, TrialConfig
from trainables.data import DataSplits, load_data
from trainables.initialization import initialize
from trainables.isolation import derive_seed, generator, resolve_device
from trainables.models import build_model
from trainables.tasks import Task, build_task


@dataclass(frozen=True)
class Session:
    config: TrialConfig
    device: torch.device
    splits: DataSplits
    task: Task
    model: nn.Module
    arm: Arm
    augmentation: Augmentation
    steps_per_epoch: int  # floor(training items / batch size)
    total_steps: int

    @property
    def micro_batches(self) -> int:
        """Forward and backward passes a step; their sizes differ by one sample at most."""
        return -(-self.config.batch_size // self.config.micro_batch_size)

    def close(self) -> None:
        """The model is its own again: nothing of the arm stays on it. No step can follow."""
        self.arm.close()

    def autocast(self) -> torch.autocast:
        """Context of forward passes: weights stay float32, bf16 is a matter of the operations."""
        enabled = self.config.precision == "bf16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)

    def state(self, history: list[dict[str, float]]) -> dict[str, Any]:
        """What a checkpoint holds. Random streams are functions of (seed, epoch) and need no place here."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.arm.optimizer.state_dict(),
            "history": history,
        }

    def restore(self, checkpoint: Checkpoint) -> list[dict[str, float]]:
        """Take up a checkpoint's state; returns the reports of its epochs."""
        self.model.load_state_dict(checkpoint.state["model"])
        self.arm.optimizer.load_state_dict(checkpoint.state["optimizer"])
        return [dict(report) for report in checkpoint.state["history"]]


def build_session(config: TrialConfig) -> Session:
    """Load the data, draw the weights, put both on the device, build the arm.

    Call inside `isolated`; `close` what it returns. Raises ConfigError, also for a batch larger than the training
    set; ValueError for what the arm refuses.
    """
    device = resolve_device(config.device)
    splits = load_data(config.data)
    items = len(splits.train)
    if config.batch_size > items:
        raise ConfigError(
            "batch_size <= training items must hold, but got "
            f"(batch_size={config.batch_size}, training items={items} of {config.data.name})"
        )
    steps_per_epoch = items // config.batch_size
    channels, _, width = splits.image_shape
    torch.manual_seed(derive_seed(config.seed, "weights"))
    model = build_model(config.model, in_channels=channels, classes=splits.classes, image_size=width)
    initialize(model, config.init, generator(config.seed, "init"))
    # channels last is worth 15-25% of a step on the CPU and tensor cores ask for it
    model = model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    splits = splits.to(device)
    task, augmentation = build_task(config, splits), build_augmentation(config.augmentation)
    knobs = {name: value for name, value in config.hyperparameters.items() if name != "base_lr"}
    arm = build_arm(  # last: it may put hooks on the model
        config.arm,
        model.named_parameters(),
        lr=config.lr,
        steps_per_epoch=steps_per_epoch,
        total_steps=steps_per_epoch * config.epochs,
        one_d_lr=config.one_d_lr,
        batch_size_ratio=config.batch_size / config.base_batch_size,
        model=model,
        seed=derive_seed(config.seed, "sample norms"),
        hyperparameters=knobs,
    )
    return Session(
        config=config,
        device=device,
        splits=splits,
        task=task,
        model=model,
        arm=arm,
        augmentation=augmentation,
        steps_per_epoch=steps_per_epoch,
        total_steps=steps_per_epoch * config.epochs,
    )
