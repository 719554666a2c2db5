"""Tasks by name: what a model is trained for and how it is scored. The loop knows only the protocols below."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, cast, runtime_checkable

from torch import Tensor, nn

from trainables.config import ConfigError, Scalar, require_known
from trainables.evaluation import Evaluation
from trainables.models import build_backbone, build_model
from trainables.plugins import in_short, is_reference, load_object
from trainables.tasks.barlow_twins import BarlowTwins
from trainables.tasks.classification import Classification
from trainables.workers import Workers

__all__ = ["TASKS", "Classification", "CoupledTask", "Evaluation", "ModelMaker", "Task", "TaskFacts", "build_task"]


@dataclass(frozen=True)
class ModelMaker:
    """The study's model, as a task wants it. Weights are drawn from torch's global generator."""

    name: str
    image_shape: tuple[int, int, int]
    classes: int

    def model(self) -> nn.Module:
        """Images -> (batch, classes)."""
        channels, _, size = self.image_shape
        return build_model(self.name, in_channels=channels, classes=self.classes, image_size=size)

    def backbone(self) -> tuple[nn.Module, int]:
        """Images -> (batch, width) features before the classifier, and the width."""
        channels, _, size = self.image_shape
        return build_backbone(self.name, in_channels=channels, image_size=size)


@dataclass(frozen=True)
class TaskFacts:
    """What a task is built from."""

    classes: int
    label_smoothing: float = 0.0
    options: Mapping[str, Scalar] = field(default_factory=dict)
    """What only this task knows; a task refuses what it does not know."""


class Task(Protocol):
    """One small class a task, built from `TaskFacts`.

    A study searches `val/accuracy`, so `evaluate` gives an `accuracy` whatever the task is.
    """

    views: int
    """Augmented views of each sample in training."""

    def make_model(self, maker: ModelMaker) -> nn.Module:
        """The network that is trained."""
        ...

    def loss(self, model: nn.Module, views: Sequence[Tensor], labels: Tensor) -> dict[str, Tensor]:
        """`loss`, a scalar mean over the samples with its graph, and counts: scalars that add up."""
        ...

    def metrics(self, counts: Mapping[str, float], items: int) -> dict[str, float]:
        """Reported figures of training from counts summed over `items` samples; `loss` is the loop's."""
        ...

    def evaluate(self, evaluation: Evaluation, split: str) -> dict[str, float]:
        """Scores of "validation" or "test": `loss`, `accuracy` and what else the task reports; of "test" also
        `correct` and `items`. The same on every worker."""
        ...

    def worst(self, items: int) -> dict[str, float]:
        """Finite stand-ins for all that `evaluate` gives of "test": the score of a run that diverged."""
        ...


@runtime_checkable
class CoupledTask(Task, Protocol):
    """A task whose loss is no mean over samples: it couples all samples of a batch through their embeddings."""

    def embed(self, model: nn.Module, views: Sequence[Tensor]) -> Tensor:
        """(batch, views, width) embeddings of one micro-batch."""
        ...

    def embedding_loss(self, embeddings: Tensor, workers: Workers) -> dict[str, Tensor]:
        """The loss of the global batch from all embeddings of this worker, the same on every worker."""
        ...


TASKS: dict[str, Callable[[TaskFacts], Task]] = {"classification": Classification, "barlow_twins": BarlowTwins}

_PARTS = ("views", "make_model", "loss", "metrics", "evaluate", "worst")


def build_task(name: str, facts: TaskFacts) -> Task:
    """The task called `name`, or the user's own `module:Class`.

    Raises:
        ConfigError: an unknown name, options that the task does not take, or a class that is no task.
    """
    if not is_reference(name):
        require_known("task", name, (*TASKS, "module:Class"))
        return TASKS[name](facts)
    made = load_object(name, what="task")
    try:
        task = made(facts)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"task {name!r} called with {facts} raised {in_short(error)}") from error
    missing = [part for part in _PARTS if not hasattr(task, part)]
    if missing:
        raise ConfigError(f"task {name!r} must have {', '.join(_PARTS)}, but lacks {', '.join(missing)}")
    return cast(Task, task)
