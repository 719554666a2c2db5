"""Sums over batches and the check for divergence."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from trainables.config import DataConfig, TrialConfig
from trainables.measure import (
    DivergedError,
    evaluate,
    require_finite_parameters,
    training_scores,
    worst_scores,
)
from trainables.session import build_session
from trainables.totals import Totals

Make = Callable[..., TrialConfig]


def nothing() -> None:
    pass


@pytest.mark.parametrize("chunk", [1, 7, 40])
def test_evaluation_equals_numpy_whatever_the_chunks(make_config: Make, chunk: int) -> None:
    session = build_session(make_config(micro_batch_size=chunk))
    before = {name: tensor.clone() for name, tensor in session.model.state_dict().items()}
    polls: list[int] = []
    values = evaluate(session, "test", lambda: polls.append(1))
    assert len(polls) == math.ceil(40 / chunk)
    images, labels = next(iter(session.splits.test.batches([torch.arange(40)])))
    session.model.eval()
    with torch.no_grad():
        logits = session.model(session.clean(images)).double().numpy()
    truth = labels.numpy()
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert values["test/loss"] == pytest.approx(-log_p[np.arange(40), truth].mean(), rel=1e-5)
    assert values["test/correct"] == (logits.argmax(axis=1) == truth).sum()
    assert values["test/accuracy"] == values["test/correct"] / 40
    assert values["test/items"] == 40
    # not even the running statistics move
    for name, tensor in session.model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_totals_weigh_by_items() -> None:
    totals = Totals(torch.device("cpu"))
    totals.add({"loss": torch.tensor(1.0), "correct": torch.tensor(3)}, 30)
    totals.add({"loss": torch.tensor(4.0), "correct": torch.tensor(2)}, 10)
    assert totals.read() == (1.75, {"correct": 5.0})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_scores_must_be_finite(make_config: Make, value: float) -> None:
    session = build_session(make_config())
    totals = Totals(torch.device("cpu"))
    totals.add({"loss": torch.tensor(value), "correct": torch.tensor(1)}, 2)
    with pytest.raises(DivergedError, match=f"train/loss is {value}"):
        training_scores(session, totals)


@pytest.mark.parametrize("classes", [4, 12])
def test_worst_scores_have_the_same_keys(make_config: Make, classes: int) -> None:
    data = DataConfig("synthetic", options={"items": 200, "classes": classes})
    session = build_session(make_config(data=data))
    for split, section in (("validation", "val"), ("test", "test")):
        worst = worst_scores(session, split)
        assert set(worst) == set(evaluate(session, split, nothing))
        assert worst[f"{section}/loss"] == pytest.approx(math.log(classes))
        assert worst[f"{section}/accuracy"] == pytest.approx(1 / classes)
        assert worst.get(f"{section}/top5_accuracy", 5 / 12) == pytest.approx(5 / 12)
    assert worst_scores(session, "train") == pytest.approx(
        {"train/loss": math.log(classes), "train/accuracy": 1 / classes}
    )


def test_top_five_equals_numpy(make_config: Make) -> None:
    session = build_session(make_config(data=DataConfig("synthetic", options={"items": 200, "classes": 12})))
    images, labels = next(iter(session.splits.validation.batches([torch.arange(40)])))
    session.model.eval()
    with torch.no_grad():
        best = np.argsort(-session.model(session.clean(images)).numpy(), axis=1)[:, :5]
    hits = [label in row for label, row in zip(labels.tolist(), best.tolist(), strict=True)]
    assert evaluate(session, "validation", nothing)["val/top5_accuracy"] == pytest.approx(np.mean(hits))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_parameters_must_be_finite(make_config: Make, value: float) -> None:
    session = build_session(make_config())
    with torch.no_grad():
        session.model.head.weight.fill_(1e38)  # type: ignore[union-attr, operator]
    require_finite_parameters(session)
    with torch.no_grad():
        session.model.head.bias[1] = value  # type: ignore[index, operator]
    with pytest.raises(DivergedError, match=r"parameter head\.bias is not finite"):
        require_finite_parameters(session)
