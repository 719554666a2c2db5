"""Classification against numpy."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from trainables.config import ConfigError, TrialConfig
from trainables.data import load_data
from trainables.tasks import Classification, build_task


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(50, 6, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, 6, (50,), generator=generator)


@pytest.mark.parametrize("training", [True, False])
def test_loss_and_counts(batch: tuple[torch.Tensor, torch.Tensor], training: bool) -> None:
    logits, labels = batch
    task = Classification(classes=6, label_smoothing=0.2)
    measured = task.measure(nn.Identity().train(training), logits, labels)
    scores, truth = logits.numpy(), labels.numpy()
    log_p = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    smoothing = 0.2 if training else 0.0
    target = (1 - smoothing) * np.eye(6)[truth] + smoothing / 6
    assert float(measured["loss"]) == pytest.approx(-(target * log_p).sum(axis=1).mean(), rel=1e-12)
    assert float(measured["correct"]) == (scores.argmax(axis=1) == truth).sum()


def test_metrics_and_worst() -> None:
    task = Classification(classes=4)
    assert task.metrics({"correct": 30.0}, 40) == {"accuracy": 0.75}
    worst = task.worst(40)
    assert worst["loss"] == pytest.approx(math.log(4))
    assert task.metrics(worst, 40) == {"accuracy": 0.25}


def test_half_precision_logits_are_summed_in_float32() -> None:
    logits = torch.randn(8, 3, dtype=torch.bfloat16)
    measured = Classification(classes=3).measure(nn.Identity(), logits, torch.zeros(8, dtype=torch.int64))
    assert measured["loss"].dtype == torch.float32


def test_built_from_the_config(make_config: Callable[..., TrialConfig]) -> None:
    config = make_config(label_smoothing=0.1)
    task = build_task(config, load_data(config.data))
    assert isinstance(task, Classification)
    assert (task.classes, task.label_smoothing) == (4, 0.1)
    with pytest.raises(ConfigError, match="task must be one of classification"):
        build_task(make_config(task="regression"), load_data(config.data))
