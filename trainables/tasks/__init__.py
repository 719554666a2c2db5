"""Tasks by name: what a model is trained for and how it is scored. The loop knows only the protocol below."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from torch import Tensor, nn

from trainables.config import TrialConfig, require_known
from trainables.data.splits import DataSplits
from trainables.tasks.classification import Classification

__all__ = ["TASKS", "Classification", "Task", "build_task"]


class Task(Protocol):
    """One small class a task."""

    def measure(self, model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """`loss`, a scalar mean over the batch with its graph, and counts: scalars that add up."""
        ...

    def metrics(self, counts: Mapping[str, float], items: int) -> dict[str, float]:
        """Reported figures from counts summed over `items` samples; `loss` is the loop's."""
        ...

    def worst(self, items: int) -> dict[str, float]:
        """Finite stand-ins for `loss` and every count: the score of a run that diverged."""
        ...


def _classification(config: TrialConfig, splits: DataSplits) -> Task:
    return Classification(classes=splits.classes, label_smoothing=config.label_smoothing)


TASKS: dict[str, Callable[[TrialConfig, DataSplits], Task]] = {"classification": _classification}


def build_task(config: TrialConfig, splits: DataSplits) -> Task:
    """Raises ConfigError on an unknown name."""
    require_known("task", config.task, tuple(TASKS))
    return TASKS[config.task](config, splits)
