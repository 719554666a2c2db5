"""Classification against numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from trainables.config import ConfigError
from trainables.tasks import Classification, CoupledTask, TaskFacts, build_task


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(50, 6, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, 6, (50,), generator=generator)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_loss_and_counts(batch: tuple[torch.Tensor, torch.Tensor], smoothing: float) -> None:
    logits, labels = batch
    task = Classification(TaskFacts(classes=6, label_smoothing=smoothing))
    measured = task.loss(nn.Identity(), [logits], labels)
    scores, truth = logits.numpy(), labels.numpy()
    log_p = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    target = (1 - smoothing) * np.eye(6)[truth] + smoothing / 6
    assert float(measured["loss"]) == pytest.approx(-(target * log_p).sum(axis=1).mean(), rel=1e-12)
    assert float(measured["correct"]) == (scores.argmax(axis=1) == truth).sum()
    # an evaluation's loss is plain
    plain = task._measure(nn.Identity(), logits, labels)
    assert float(plain["loss"]) == pytest.approx(-log_p[np.arange(50), truth].mean(), rel=1e-12)


def test_metrics_and_worst() -> None:
    task = Classification(TaskFacts(classes=4))
    assert task.metrics({"correct": 30.0}, 40) == {"accuracy": 0.75}
    assert task.worst(40) == pytest.approx({"loss": math.log(4), "accuracy": 0.25, "correct": 10.0, "items": 40.0})


def test_half_precision_logits_are_summed_in_float32() -> None:
    logits = torch.randn(8, 3, dtype=torch.bfloat16)
    measured = Classification(TaskFacts(classes=3)).loss(nn.Identity(), [logits], torch.zeros(8, dtype=torch.int64))
    assert measured["loss"].dtype == torch.float32


def test_built_from_facts() -> None:
    task = build_task("classification", TaskFacts(classes=4, label_smoothing=0.1))
    assert isinstance(task, Classification)
    assert not isinstance(task, CoupledTask)
    assert (task.classes, task.label_smoothing) == (4, 0.1)
    with pytest.raises(ConfigError, match="task must be one of classification"):
        build_task("regression", TaskFacts(classes=4))
    with pytest.raises(ConfigError, match="classification takes no options, but got projector"):
        build_task("classification", TaskFacts(classes=4, options={"projector": "8-8"}))
