"""Nearest neighbours against a loop in numpy and against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from trainables.tasks import knn
from trainables.tasks.features import Features, Scores
from trainables.tasks.knn import knn_scores
from trainables.workers import Workers

CLASSES, WIDTH, BANK, QUERIES = 4, 6, 90, 37


def features(items: int, seed: int, noise: float = 1.5) -> Features:
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(CLASSES, WIDTH))
    labels = generator.integers(0, CLASSES, items)
    values = centres[labels] + noise * generator.normal(size=(items, WIDTH))
    return Features(torch.from_numpy(3 * values), torch.from_numpy(labels))


def score(bank: Features, queries: Features, neighbours: int = 9, temperature: float = 0.2) -> Scores:
    return knn_scores(
        bank,
        queries,
        classes=CLASSES,
        neighbours=neighbours,
        temperature=temperature,
        workers=Workers(),
        poll=lambda: None,
    )


def test_by_hand() -> None:
    bank, queries = features(BANK, 1), features(QUERIES, 2)
    k, temperature = 9, 0.2
    loss, correct = 0.0, 0
    for query, truth in zip(queries.values.numpy(), queries.labels.numpy(), strict=True):
        cosine = bank.values.numpy() @ query / np.linalg.norm(bank.values.numpy(), axis=1) / np.linalg.norm(query)
        nearest = np.argsort(-cosine)[:k]
        votes = np.zeros(CLASSES)
        for place in nearest:
            votes[bank.labels[place]] += math.exp(cosine[place] / temperature)
        chance = (k * votes / votes.sum() + 1 / CLASSES) / (k + 1)
        loss -= math.log(chance[truth])
        correct += int(votes.argmax() == truth)
    found = score(bank, queries, k, temperature)
    assert found.loss == pytest.approx(loss / QUERIES, rel=1e-12)
    assert (found.correct, found.items) == (correct, QUERIES)
    assert 0.3 < found.accuracy == correct / QUERIES < 1


def test_as_scikit_learn() -> None:
    bank, queries = features(BANK, 3), features(QUERIES, 4)
    other = KNeighborsClassifier(9, metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.2))
    other.fit(bank.values.numpy(), bank.labels.numpy())
    assert score(bank, queries).accuracy == other.score(queries.values.numpy(), queries.labels.numpy())


@pytest.mark.parametrize("room", [1, 2 * BANK, 10 * BANK])
def test_chunks_change_nothing(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bank, queries = features(BANK, 1), features(QUERIES, 2)
    whole = score(bank, queries)
    monkeypatch.setitem(knn.SIMILARITIES, "cpu", room)
    chunked = score(bank, queries)
    assert chunked.loss == pytest.approx(whole.loss, rel=1e-12)
    assert chunked.correct == whole.correct


def test_a_small_set_is_asked_for_a_class_at_most() -> None:
    """200 neighbours of 90 would be all of them; 22 is what a class of four has."""
    bank, queries = features(BANK, 1), features(QUERIES, 2)
    assert score(bank, queries, neighbours=200) == score(bank, queries, neighbours=BANK // CLASSES)
    assert score(bank, queries, neighbours=200) != score(bank, queries, neighbours=BANK // CLASSES - 1)
    tiny = Features(bank.values[:2], bank.labels[:2])
    assert score(tiny, queries) == score(tiny, queries, neighbours=1)


def test_what_says_nothing_costs_log_classes() -> None:
    """Equal features of equally many samples a class vote for nothing; a sharp temperature overflows nowhere."""
    same = Features(torch.ones(40, WIDTH), torch.arange(40) % CLASSES)
    found = score(Features(same.values[:4], same.labels[:4]), same, neighbours=4)
    assert math.isfinite(found.loss)
    bank = features(4000, 1, noise=100.0)
    assert score(bank, features(500, 2, noise=100.0), neighbours=900).loss == pytest.approx(math.log(4), rel=0.02)
    sharp = score(features(BANK, 1, noise=0.01), features(QUERIES, 2, noise=0.01), temperature=1e-6)
    assert sharp.accuracy == 1
    assert 0 < sharp.loss < 0.2


def test_features_that_are_not_finite_show_in_the_loss() -> None:
    bank, queries = features(BANK, 1), features(QUERIES, 2)
    queries.values[3] = math.nan
    assert math.isnan(score(bank, queries).loss)
