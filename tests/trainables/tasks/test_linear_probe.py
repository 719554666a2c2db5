"""The linear probe against scikit-learn's logistic regression."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from trainables.tasks import linear_probe
from trainables.tasks.features import Features
from trainables.tasks.linear_probe import LinearProbe, fit_linear_probe
from trainables.workers import Workers

CLASSES, WIDTH = 3, 5
SCALE = np.array([1.0, 100.0, 1e-3, 2.0, 5.0])


def features(items: int, seed: int, noise: float = 1.0) -> Features:
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(CLASSES, WIDTH))
    labels = generator.integers(0, CLASSES, items)
    values = (centres[labels] + noise * generator.normal(size=(items, WIDTH)) + 4) * SCALE
    return Features(torch.from_numpy(values), torch.from_numpy(labels))


def fit(train: Features, l2: float = 1e-2, iterations: int = 500) -> LinearProbe:
    return fit_linear_probe(train, classes=CLASSES, l2=l2, iterations=iterations, workers=Workers(), poll=lambda: None)


@pytest.mark.parametrize("l2", [1e-3, 1e-1])
def test_as_scikit_learn(l2: float) -> None:
    train, test = features(200, 1), features(150, 2)
    scaler = StandardScaler().fit(train.values.numpy())
    other = LogisticRegression(C=1 / (len(train.labels) * l2), tol=1e-10, max_iter=10_000)
    other.fit(scaler.transform(train.values.numpy()), train.labels.numpy())
    probe = fit(train, l2)
    # the bias is free up to a constant over the classes
    weights, bias = probe.table[:, :-1].numpy(), probe.table[:, -1].numpy()
    np.testing.assert_allclose(weights, other.coef_, atol=2e-4)
    np.testing.assert_allclose(bias - bias.mean(), other.intercept_ - other.intercept_.mean(), atol=2e-4)
    scores = probe.scores(test, Workers())
    log_p = other.predict_log_proba(scaler.transform(test.values.numpy()))
    assert scores.loss == pytest.approx(-log_p[np.arange(150), test.labels].mean(), rel=1e-5)
    assert scores.accuracy == other.score(scaler.transform(test.values.numpy()), test.labels.numpy())
    assert (scores.correct, scores.items) == (round(scores.accuracy * 150), 150)


def test_separable_features_are_separated() -> None:
    scores = fit(features(200, 1, noise=0.05), l2=1e-4).scores(features(150, 2, noise=0.05), Workers())
    assert scores.accuracy == 1
    assert scores.loss < 0.05


def test_float32_and_the_scale_of_features() -> None:
    """In float32 the same to its precision; a scale of any size changes nothing."""
    train, test = features(200, 1), features(150, 2)
    exact = fit(train).scores(test, Workers())
    for factor in (1.0, 1e4, 1e-4):
        small, held_out = (Features((factor * one.values).float(), one.labels) for one in (train, test))
        found = fit(small).scores(held_out, Workers())
        assert found.loss == pytest.approx(exact.loss, rel=1e-3)
        assert found.correct == exact.correct


def test_constant_features_do_no_harm() -> None:
    """A unit that is dead, or of one value for all samples, gets no weight."""
    train, test = features(200, 1), features(150, 2)

    def padded(one: Features) -> Features:
        extra = torch.stack([torch.zeros(len(one.labels)), torch.full((len(one.labels),), 0.1)], dim=1)
        return Features(torch.cat([one.values.float(), extra], dim=1), one.labels)

    probe = fit(padded(train))
    assert torch.equal(probe.deviation[-2:], torch.ones(2))
    assert probe.table[:, WIDTH : WIDTH + 2].abs().max() < 1e-5
    assert probe.scores(padded(test), Workers()).loss == pytest.approx(
        fit(train).scores(test, Workers()).loss, rel=1e-3
    )


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = features(200, 1), features(150, 2)
    whole = fit(train).scores(test, Workers())
    monkeypatch.setattr(linear_probe, "LOGITS", 7 * CLASSES)
    assert fit(train).scores(test, Workers()).loss == pytest.approx(whole.loss, rel=1e-6)


def test_iterations_limit_the_fit_and_it_can_be_stopped() -> None:
    train = features(200, 1)
    assert fit(train, iterations=1).scores(train, Workers()).loss > fit(train).scores(train, Workers()).loss + 1e-3

    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        fit_linear_probe(train, classes=CLASSES, l2=0.1, iterations=5, workers=Workers(), poll=stop)


def test_features_that_are_not_finite_show_in_the_loss() -> None:
    train = features(200, 1)
    train.values[0, 0] = math.inf
    assert not math.isfinite(fit(train).scores(features(150, 2), Workers()).loss)
