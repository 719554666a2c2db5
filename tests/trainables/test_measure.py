"""Sums over batches and the check for divergence."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from trainables.config import TrialConfig
from trainables.measure import (
    DivergedError,
    Totals,
    evaluate,
    require_finite_parameters,
    section,
    worst_section,
)
from trainables.session import build_session

Make = Callable[..., TrialConfig]


def nothing() -> None:
    pass


@pytest.mark.parametrize("chunk", [1, 7, 40])
def test_evaluation_equals_numpy_whatever_the_chunks(make_config: Make, chunk: int) -> None:
    session = build_session(make_config(micro_batch_size=chunk))
    before = {name: tensor.clone() for name, tensor in session.model.state_dict().items()}
    polls: list[int] = []
    totals = evaluate(session, session.splits.validation, lambda: polls.append(1))
    assert len(polls) == math.ceil(40 / chunk)
    session.model.eval()
    with torch.no_grad():
        logits = session.model(session.splits.validation.images).double().numpy()
    truth = session.splits.validation.labels.numpy()
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    values = section(session, "val", totals, counts=True)
    assert values["val/loss"] == pytest.approx(-log_p[np.arange(40), truth].mean(), rel=1e-5)
    assert values["val/correct"] == (logits.argmax(axis=1) == truth).sum()
    assert values["val/accuracy"] == values["val/correct"] / 40
    assert values["val/items"] == 40
    # not even the running statistics move
    for name, tensor in session.model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_totals_weigh_by_items() -> None:
    totals = Totals(torch.device("cpu"))
    totals.add({"loss": torch.tensor(1.0), "correct": torch.tensor(3)}, 30)
    totals.add({"loss": torch.tensor(4.0), "correct": torch.tensor(2)}, 10)
    assert totals.read() == (1.75, {"correct": 5.0})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_section_must_be_finite(make_config: Make, value: float) -> None:
    session = build_session(make_config())
    totals = Totals(torch.device("cpu"))
    totals.add({"loss": torch.tensor(value), "correct": torch.tensor(1)}, 2)
    with pytest.raises(DivergedError, match=f"val/loss is {value}"):
        section(session, "val", totals)


def test_worst_section_has_the_same_keys(make_config: Make) -> None:
    session = build_session(make_config())
    totals = evaluate(session, session.splits.test, nothing)
    for counts in (False, True):
        worst = worst_section(session, "test", session.splits.test, counts=counts)
        assert set(worst) == set(section(session, "test", totals, counts=counts))
        assert (worst["test/loss"], worst["test/accuracy"]) == (pytest.approx(math.log(4)), 0.25)


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
