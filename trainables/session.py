"""Everything one trial trains with, built from its config alone, and its state for checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from optim.arm import Arm
from optim.registry import build_arm
from trainables.augment import Augmentation, build_augmentation, centre_crop
from trainables.checkpoint import Checkpoint
from trainables.config import ConfigError, TrialConfig
from trainables.counter_random import uniforms
from trainables.data import load_data
from trainables.data.splits import DataSplits, Split
from trainables.initialization import initialize
from trainables.isolation import derive_seed, generator, resolve_device
from trainables.plugins import is_reference, load_object
from trainables.tasks import ModelMaker, Task, TaskFacts, build_task
from trainables.workers import Workers

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Session:
    config: TrialConfig
    workers: Workers
    device: torch.device
    splits: DataSplits
    task: Task
    model: nn.Module
    network: nn.Module  # the model as training calls it: compiled, or the model itself
    arm: Arm
    augmentation: Augmentation
    scaler: torch.amp.GradScaler  # does nothing but in fp16
    steps_per_epoch: int  # floor(training items / batch size)
    total_steps: int

    @property
    def micro_batches(self) -> int:
        """Forward and backward passes of each worker a step; their sizes differ by one sample at most."""
        return -(-self.largest_share // self.config.micro_batch_size)

    @property
    def largest_share(self) -> int:
        """Samples of a step on the worker that has the most."""
        return -(-self.config.batch_size // self.workers.size)

    def split(self, name: str) -> Split:
        """ "train", "validation" or "test"."""
        splits: dict[str, Split] = {
            "train": self.splits.train,
            "validation": self.splits.validation,
            "test": self.splits.test,
        }
        return splits[name]

    def views(self, images: Tensor, places: Tensor, epoch: int) -> list[Tensor]:
        """Augmented, normalised views of raw images: a function of (seed, epoch, view, place of the sample)."""
        augmentation, places = self.augmentation, places.to(images.device)
        views = []
        for number, apply in enumerate(augmentation.views):
            key = derive_seed(self.config.seed, f"augmentation {number}", epoch)
            drawn = uniforms(key, places, augmentation.draws)
            views.append(self.splits.normalisation(apply(images, drawn, self.splits.normalisation.peak)))
        return views

    def clean(self, images: Tensor) -> Tensor:
        """Raw images as evaluation sees them: the middle, normalised."""
        return self.splits.normalisation(centre_crop(images, self.splits.image_shape[-1]))

    def close(self) -> None:
        """The model is its own again: nothing of the arm stays on it. No step can follow."""
        self.arm.close()
        self.splits.close()

    def autocast(self) -> AbstractContextManager[object]:
        """Context of forward passes: weights stay float32, precision is a matter of the operations."""
        if self.config.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=_AUTOCAST[self.config.precision])

    def state(self, history: Sequence[dict[str, float]]) -> dict[str, Any]:
        """What a checkpoint holds. Random streams are functions of (seed, epoch) and need no place here."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.arm.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "history": list(history),
        }

    def restore(self, checkpoint: Checkpoint) -> list[dict[str, float]]:
        """Take up a checkpoint's state; returns the reports of its epochs."""
        self.model.load_state_dict(checkpoint.state["model"])
        self.arm.optimizer.load_state_dict(checkpoint.state["optimizer"])
        self.scaler.load_state_dict(checkpoint.state["scaler"])
        return [dict(report) for report in checkpoint.state["history"]]


def build_session(config: TrialConfig, *, workers: Workers | None = None) -> Session:
    """Load the data, draw the weights, put both on the device, build the arm.

    Call inside `isolated`, on every worker (`workers` where it is not torch's process group); `close` what it returns.
    Raises ConfigError, also for a batch larger than the training set or another number of workers than the config's;
    ValueError for what the arm refuses.
    """
    device, workers = resolve_device(config.device), workers or Workers.current()
    if workers.size != config.workers:
        raise ConfigError(f"the trial is made for {config.workers} workers, but {workers.size} train it")
    splits = load_data(config.data)
    items = len(splits.train)
    if config.batch_size > items:
        raise ConfigError(
            "batch_size <= training items must hold, but got "
            f"(batch_size={config.batch_size}, training items={items} of {config.data.name})"
        )
    steps_per_epoch = items // config.batch_size
    task, augmentation = _task_and_augmentation(config, splits)
    model = _model(config, task, splits, device)
    knobs = {name: value for name, value in config.hyperparameters.items() if name != "base_lr"}
    arm = _make_arm(config.arm)(  # last: it may put hooks on the model
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
    scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
    if arm.sample_norms is not None and scaler.is_enabled():
        arm.sample_norms.grad_scaler = scaler
    # hooks break a compiled graph at every layer; on the CPU compiling does not pay
    compiles = config.compile and device.type == "cuda" and arm.sample_norms is None
    return Session(
        config=config,
        workers=workers,
        device=device,
        splits=splits.to(device),
        task=task,
        model=model,
        network=cast(nn.Module, torch.compile(model)) if compiles else model,
        arm=arm,
        augmentation=augmentation,
        scaler=scaler,
        steps_per_epoch=steps_per_epoch,
        total_steps=steps_per_epoch * config.epochs,
    )


def _make_arm(name: str) -> Callable[..., Arm]:
    """What builds the arm: ours, or the user's own `module:factory`, called alike."""
    if not is_reference(name):
        return partial(build_arm, name)
    factory = load_object(name, what="arm")

    def make(*arguments: Any, **options: Any) -> Arm:
        arm = factory(*arguments, **options)
        if not isinstance(arm, Arm):
            raise ConfigError(f"arm {name!r} must return an optim.Arm, but returned {type(arm).__name__}")
        return arm

    return make


def _task_and_augmentation(config: TrialConfig, splits: DataSplits) -> tuple[Task, Augmentation]:
    task = build_task(config.task, TaskFacts(splits.classes, config.label_smoothing, config.task_options))
    augmentation = build_augmentation(config.augmentation, image_shape=splits.image_shape)
    if len(augmentation.views) != task.views:
        raise ConfigError(
            f"{config.task} trains on {task.views} views of each image, but augmentation {config.augmentation} makes "
            f"{len(augmentation.views)}; choose another train.augmentation"
        )
    return task, augmentation


def _model(config: TrialConfig, task: Task, splits: DataSplits, device: torch.device) -> nn.Module:
    torch.manual_seed(derive_seed(config.seed, "weights"))
    model = task.make_model(ModelMaker(config.model, splits.image_shape, splits.classes))
    initialize(model, config.init, generator(config.seed, "init"))
    if config.sync_batchnorm:
        if device.type != "cuda":
            raise ConfigError("sync_batchnorm needs CUDA devices: torch's SyncBatchNorm refuses tensors on the CPU")
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    # channels last is worth 15-25% of a step on the CPU and tensor cores ask for it
    return model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
