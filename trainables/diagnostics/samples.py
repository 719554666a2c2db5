"""Curvature, SAM sharpness and gradient noise on the same training samples every time.

Measured in float32 on the loss that is trained, label smoothing included, on a copy of the model. Every worker measures
the same, and the first one's figures are taken, so that devices that round differently cannot part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from optim.curvature import hessian_ends, sam_sharpness
from optim.frozen import BatchNormMode
from optim.noise_scale import gradient_noise_scale
from trainables.config import ConfigError
from trainables.isolation import derive_seed, generator
from trainables.memory import memory_advice
from trainables.session import Session
from trainables.tasks import CoupledTask
from trainables.workers import Workers

NEVER_TRAINED_EPOCH = 0  # whose augmentation a task with several views is measured with


@dataclass(frozen=True)
class Batch:
    """Samples as a task's loss takes them."""

    views: Sequence[Tensor]  # (samples, channels, size, size) each
    labels: Tensor  # (samples,)


class FixedSamples:
    """Training samples that are chosen by the seed of the split, so that trials on one split are measured alike.

    A task with one view sees them as evaluation does; one with several sees the same augmented views each time.

    Args:
        session: of this worker.

    Raises:
        ConfigError: there are too few training samples for the batches of the noise scale, or the task has none.
    """

    def __init__(self, session: Session) -> None:
        config, available = session.config.diagnostics, len(session.splits.train)
        self._session = session
        self._config = config
        self.items = min(config.items, available)
        self._batchnorm: BatchNormMode = "eval" if config.batchnorm == "eval" else "train"
        self._seed = derive_seed(session.config.seed, "diagnostics")
        self._places = torch.randperm(available, generator=generator(session.config.data.split_seed, "diagnostics"))[
            : self.items
        ]
        self._raw: tuple[Tensor, Tensor] | None = None
        if not config.noise_scale:
            return
        if isinstance(session.task, CoupledTask):
            raise ConfigError(
                f"diagnostics.noise_scale needs a loss that is a mean over samples, but that of {session.config.task} "
                "couples the samples of a batch; set it to 0"
            )
        if self.items < config.noise_batches:
            raise ConfigError(
                "diagnostics.noise_batches <= training items must hold, but got "
                f"(noise_batches={config.noise_batches}, training items={available})"
            )

    def measure(self, epoch: int, last: bool, poll: Callable[[], None]) -> dict[str, float]:
        """Report keys of what is due after this epoch; what is not finite is left out.

        `poll` is called before each measurement, by every worker alike. Raises MemoryAdviceError where the device
        has too little memory.
        """
        measures = {"curvature": self._curvature, "sam_sharpness": self._sam_sharpness, "noise_scale": self._noise}
        found: dict[str, float] = {}
        for name, measure in measures.items():
            if not self._config.due(name, epoch, last):
                continue
            poll()
            with memory_advice(
                f"diagnostics.{name} on {self.items} samples at once", self._session.device, "lower diagnostics.items"
            ):
                found |= measure()
        found = _of_the_first(found, self._session.workers)
        return {key: value for key, value in found.items() if math.isfinite(value)}

    def _curvature(self) -> dict[str, float]:
        try:
            ends = hessian_ends(
                self._session.model,
                self._loss,
                self._batch(),
                batchnorm=self._batchnorm,
                max_products=self._config.curvature_products,
                seed=self._seed,
            )
        except np.linalg.LinAlgError:  # of a Hessian that is not finite
            return dict.fromkeys(("curvature/largest", "curvature/smallest", "curvature/residual"), math.nan)
        return {
            "curvature/largest": float(ends.largest[0]),
            "curvature/smallest": float(ends.smallest[0]),
            "curvature/residual": float(max(ends.largest_residuals[0], ends.smallest_residuals[0])),
        }

    def _sam_sharpness(self) -> dict[str, float]:
        found = sam_sharpness(
            self._session.model,
            self._loss,
            self._batch(),
            batchnorm=self._batchnorm,
            rho=self._config.rho,
            seed=self._seed,
        )
        return {"curvature/sam_sharpness": found.sharpness}

    def _noise(self) -> dict[str, float]:
        batch, size = self._batch(), self.items // self._config.noise_batches
        parts = [
            Batch([view[start : start + size] for view in batch.views], batch.labels[start : start + size])
            for start in range(0, size * self._config.noise_batches, size)
        ]
        found = gradient_noise_scale(
            self._session.model, self._loss, parts, batch_size=size, batchnorm=self._batchnorm, seed=self._seed
        )
        return {
            "noise/scale": found.noise_scale,
            "noise/gradient_squared": found.gradient_square,
            "noise/variance": found.trace,
            "noise/batch_variance": found.gradient_variance(self._session.config.batch_size),
        }

    def _batch(self) -> Batch:
        session = self._session
        if self._raw is None:
            (self._raw,) = session.splits.train.batches([self._places])
        images, labels = self._raw
        if len(session.augmentation.views) == 1:
            return Batch([session.clean(images)], labels)
        return Batch(session.views(images, self._places, NEVER_TRAINED_EPOCH), labels)

    def _loss(self, model: nn.Module, batch: Batch) -> Tensor:
        for module in model.modules():
            if isinstance(module, nn.SyncBatchNorm):
                # every worker has all of the samples, and the synchronised one has no second derivative
                cast(nn.Module, module).__class__ = _BatchNorm
        return self._session.task.loss(model, batch.views, batch.labels)["loss"]


class _BatchNorm(nn.modules.batchnorm._BatchNorm):
    """Of inputs of any number of dimensions."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Nothing: `nn.SyncBatchNorm` has seen them."""


def _of_the_first(found: dict[str, float], workers: Workers) -> dict[str, float]:
    """The first worker's figures, on all of them; the keys are the same everywhere."""
    if workers.size == 1 or not found:
        return found
    own = torch.tensor(list(found.values()), dtype=torch.float64)
    return dict(zip(found, workers.sum(own if workers.rank == 0 else torch.zeros_like(own)).tolist(), strict=True))
