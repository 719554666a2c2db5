"""Records of every layer's norms during training, for every arm.

Layer-wise optimizers know the norms from their own step, and `optim.LayerStats` keeps them; for all others they are
computed at the steps that are recorded. Nothing waits for the device before the epoch is over.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from optim.base import LayerWiseOptimizer
from optim.layer_stats import LayerStats
from optim.lists import norms
from trainables.diagnostics.layer_table import LayerTable
from trainables.session import Session

Array = npt.NDArray[np.float32]


class _Source(Protocol):
    """Where norms come from. Every optimizer step is announced before it is made."""

    @property
    def names(self) -> tuple[str, ...]: ...

    def announce(self, step: int) -> None: ...

    def flush(self) -> tuple[npt.NDArray[np.int64], Array, Array, Array]:
        """Steps (records,), and norms of weights and gradients and trust ratios (records, layers) each."""
        ...


class LayerRecorder:
    """Keeps one record in every so many optimizer steps of a session.

    Make it before the session is restored: a layer-wise optimizer's state has the position of its records.

    Args:
        session: whose optimizer's steps are watched from now on.
        every: the steps 0, every, 2 * every ... over all epochs are recorded.
    """

    def __init__(self, session: Session, every: int) -> None:
        optimizer, model = session.arm.optimizer, session.model
        self._source: _Source
        if isinstance(optimizer, LayerWiseOptimizer):
            self._source = _Watched(optimizer, model, every, session.steps_per_epoch)
        else:
            self._source = _Computed(model, every)
        self._step = 0
        # a step that a gradient scaler leaves out is never announced
        optimizer.register_step_pre_hook(self._announce)
        ranks = {name: rank for rank, (name, _) in enumerate(model.named_parameters())}
        self._columns = sorted(range(len(self._source.names)), key=lambda column: ranks[self._source.names[column]])
        self._names = tuple(self._source.names[column] for column in self._columns)
        dimensions = {name: parameter.ndim for name, parameter in model.named_parameters()}
        self._dimensions = tuple(dimensions[name] for name in self._names)

    def start(self, step: int) -> None:
        """The next optimizer step has this number, from 0 over all epochs."""
        self._step = step

    def stepped(self, step: int) -> None:
        """The step with this number has been made, or left out."""
        self._step = step + 1

    def flush(self, epoch: int, steps: int) -> LayerTable:
        """What was recorded since the last time, of steps below `steps`: those after a loss went wrong do not count."""
        numbers, *values = self._source.flush()
        kept = numbers < steps
        return LayerTable(
            self._names,
            self._dimensions,
            numbers[kept],
            np.full(int(kept.sum()), epoch, dtype=np.int64),
            *(value[kept][:, self._columns] for value in values),
        )

    def _announce(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self._source.announce(self._step)


class _Watched:
    """The norms that a layer-wise optimizer computes for its own step."""

    def __init__(self, optimizer: LayerWiseOptimizer, model: nn.Module, every: int, steps_per_epoch: int) -> None:
        self._stats = LayerStats(
            optimizer, model.named_parameters(), capacity=-(-steps_per_epoch // every), every=every
        )
        self._optimizer = optimizer
        self._seen: int | None = None  # steps before those below
        self._steps: list[int] = []  # of the loop, in the order in which the optimizer made them

    @property
    def names(self) -> tuple[str, ...]:
        return self._stats.names

    def announce(self, step: int) -> None:
        if self._seen is None:  # only now is the state certainly restored
            self._seen = int(self._optimizer.state_dict()["layer_stats"]["count"])
        self._steps.append(step)

    def flush(self) -> tuple[npt.NDArray[np.int64], Array, Array, Array]:
        found, seen = self._stats.flush(), self._seen or 0
        steps = np.array([self._steps[count - seen] for count in found.steps], dtype=np.int64)
        self._seen, self._steps = seen + len(self._steps), []
        return steps, found.lwn, found.lgn, found.trust_ratio


class _Computed:
    """Norms for an optimizer without any of its own."""

    def __init__(self, model: nn.Module, every: int) -> None:
        self.names, parameters = zip(*model.named_parameters(), strict=True)
        self._parameters: tuple[nn.Parameter, ...] = parameters
        self._every = every
        self._steps: list[int] = []
        self._records: list[Tensor] = []  # (2, layers) each, on the device

    @torch.no_grad()
    def announce(self, step: int) -> None:
        if step % self._every:
            return
        places = [place for place, parameter in enumerate(self._parameters) if parameter.grad is not None]
        weights = [self._parameters[place] for place in places]
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        found = torch.stack([norms([*weights], torch.float32), norms(gradients, torch.float32)])
        if len(places) < len(self._parameters):
            record = torch.full((2, len(self._parameters)), torch.nan, device=found.device)
            record[:, places] = found
            found = record
        self._steps.append(step)
        self._records.append(found)

    def flush(self) -> tuple[npt.NDArray[np.int64], Array, Array, Array]:
        steps, layers = np.array(self._steps, dtype=np.int64), len(self._parameters)
        values = torch.stack(self._records).cpu().numpy() if self._records else np.empty((0, 2, layers), np.float32)
        self._steps, self._records = [], []
        weights, gradients = values[:, 0], values[:, 1]
        return steps, weights, gradients, np.where(np.isnan(weights), weights, np.float32(1.0))
