"""Recorded norms against numpy's, for every kind of arm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from trainables.config import TrialConfig
from trainables.diagnostics.layers import LayerRecorder
from trainables.epoch import Hooks, Progress, train_epoch
from trainables.isolation import isolated
from trainables.session import Session, build_session

Make = Callable[..., TrialConfig]
ARMS = ["sgd_warmup", "adamw", "lars_warmup", "tvlars", "lamb_warmup", "clars"]


@pytest.fixture
def session_of(make_config: Make) -> Any:
    """From an arm to its session, closed after the test."""
    with isolated(torch.device("cpu")):
        opened: list[Session] = []

        def build(arm: str, **changes: Any) -> Session:
            opened.append(build_session(make_config(arm, **changes)))
            return opened[-1]

        yield build
        for session in opened:
            session.close()


class Witness:
    """Norms in float64 of each step's weights and gradients, before the step."""

    def __init__(self, session: Session) -> None:
        self.model = session.model
        self.weights: list[npt.NDArray[np.float64]] = []
        self.gradients: list[npt.NDArray[np.float64]] = []
        session.arm.optimizer.register_step_pre_hook(lambda *_: self.look())

    def look(self) -> None:
        def norm(tensor: torch.Tensor | None) -> float:
            return float("nan") if tensor is None else float(np.linalg.norm(tensor.detach().double().numpy().ravel()))

        parameters = list(self.model.parameters())
        self.weights.append(np.array([norm(parameter) for parameter in parameters]))
        self.gradients.append(np.array([norm(parameter.grad) for parameter in parameters]))


@pytest.mark.parametrize("arm", ARMS)
def test_norms_are_numpys(session_of: Callable[..., Session], arm: str) -> None:
    """Three steps an epoch, every second one recorded: the count goes on over epochs."""
    session = session_of(arm)
    recorder, witness = LayerRecorder(session, every=2), Witness(session)
    steps = []
    for epoch in (1, 2, 3):
        recorder.start(3 * (epoch - 1))
        train_epoch(session, epoch, Progress(), Hooks(stepped=recorder.stepped))
        table = recorder.flush(epoch, 3 * epoch)
        assert table.names == tuple(name for name, _ in session.model.named_parameters())
        assert table.dimensions == tuple(parameter.ndim for parameter in session.model.parameters())
        assert set(table.epochs) == {epoch}
        np.testing.assert_allclose(table.lwn, np.array(witness.weights)[table.steps], rtol=2e-5)
        np.testing.assert_allclose(table.lgn, np.array(witness.gradients)[table.steps], rtol=2e-5, atol=1e-9)
        steps += table.steps.tolist()
    assert steps == [0, 2, 4, 6, 8]


def test_trust_ratio_of_lars(session_of: Callable[..., Session]) -> None:
    session = session_of("lars_warmup", hyperparameters={**LARS, "weight_decay": 0.0})
    recorder = LayerRecorder(session, every=1)
    train_epoch(session, 1, Progress(), Hooks(stepped=recorder.stepped))
    table = recorder.flush(1, 3)
    adapted = np.array(table.dimensions) > 1
    np.testing.assert_allclose(table.trust_ratio[:, adapted], 1e-3 * table.lnr[:, adapted], rtol=1e-5)
    assert (table.trust_ratio[:, ~adapted] == 1).all()


LARS = {"base_lr": 20.0, "warmup_epochs": 1.0, "momentum": 0.9, "trust_coefficient": 1e-3}


@pytest.mark.parametrize("arm", ["sgd_warmup", "lamb_warmup"])
def test_a_tensor_without_gradient_has_none(session_of: Callable[..., Session], arm: str) -> None:
    session = session_of(arm)
    first = next(iter(session.model.parameters()))
    first.requires_grad_(False)
    recorder = LayerRecorder(session, every=1)
    train_epoch(session, 1, Progress(), Hooks(stepped=recorder.stepped))
    table = recorder.flush(1, 3)
    for values in (table.lwn, table.lgn, table.trust_ratio):
        assert np.isnan(values[:, 0]).all()
        assert np.isfinite(values[:, 1:]).all()


@pytest.mark.parametrize("arm", ["sgd_warmup", "lars_warmup"])
def test_steps_keep_their_numbers_where_one_is_left_out(session_of: Callable[..., Session], arm: str) -> None:
    """A gradient scaler leaves out steps whose gradients overflow; and those after a bad loss do not count."""
    session = session_of(arm)
    recorder = LayerRecorder(session, every=1)
    recorder.start(10)
    for step in (10, 11, 12, 13):
        for parameter in session.model.parameters():
            parameter.grad = torch.ones_like(parameter)
        if step != 11:
            session.arm.optimizer.step()
        recorder.stepped(step)
    assert recorder.flush(1, 13).steps.tolist() == [10, 12]
    recorder.start(14)
    session.arm.optimizer.step()
    assert recorder.flush(2, 20).steps.tolist() == [14]
