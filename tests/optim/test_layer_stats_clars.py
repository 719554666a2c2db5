"""Layer statistics of CLARS: the trust ratio divides by the mean of per-sample norms, LGN is the gradient's norm."""

from __future__ import annotations

import copy
import dataclasses
import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from optim import CLARS, LayerStats, PerSampleNorms

ETA, DECAY = 0.02, 0.1


@pytest.mark.parametrize("mode", ["exact", "subset", "micro_batch"])
def test_ring_holds_what_the_step_used(mode: str) -> None:
    torch.manual_seed(4)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.GroupNorm(2, 6), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(6 * 36, 5)
    ).double()
    images, labels = torch.randn(24, 3, 8, 8, dtype=torch.float64), torch.randint(0, 5, (24,))
    with PerSampleNorms(model, mode=mode) as norms:
        groups = [{"params": list(model[4].parameters())}, {"params": list(model[:4].parameters())}]
        optimizer = CLARS(groups, lr=0.3, weight_decay=DECAY, trust_coefficient=ETA, sample_norms=norms)
        stats = LayerStats(optimizer, model.named_parameters(), capacity=8)
        expected = []
        for _ in range(4):
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            before = {name: p.detach().norm().item() for name, p in model.named_parameters()}
            gradient = {name: p.grad.norm().item() for name, p in model.named_parameters() if p.grad is not None}
            optimizer.step()
            means = {name: mean for name, (mean, _) in norms.latest.to_dict().items()}
            ratio = {
                name: ETA * before[name] / (means[name] + DECAY * before[name]) if name in means else 1.0
                for name in before
            }
            expected.append((before, gradient, ratio))
        found = stats.flush()

    assert set(found.names) == set(expected[0][0])
    assert len({name for name in found.names if name in means}) == 2
    for step, (lwn, lgn, ratio) in enumerate(expected):
        for index, name in enumerate(found.names):
            np.testing.assert_allclose(found.lwn[step, index], lwn[name], rtol=1e-6)
            np.testing.assert_allclose(found.lgn[step, index], lgn[name], rtol=1e-6)
            np.testing.assert_allclose(found.trust_ratio[step, index], ratio[name], rtol=1e-6)


def small_net() -> nn.Module:
    torch.manual_seed(4)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))


def training(model: nn.Module, **settings: int) -> tuple[CLARS, LayerStats]:
    norms = PerSampleNorms(model, "subset", subset_size=3)
    optimizer = CLARS(model.parameters(), lr=0.3, weight_decay=DECAY, trust_coefficient=ETA, sample_norms=norms)
    return optimizer, LayerStats(optimizer, model.named_parameters(), **settings)


def train(model: nn.Module, optimizer: CLARS, steps: range) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        inputs, labels = torch.randn(8, 4, generator=generator), torch.randint(0, 3, (8,), generator=generator)
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), labels).backward()
        optimizer.step()


def test_position_and_draws_survive_a_round_trip_mid_training() -> None:
    model = small_net()
    optimizer, stats = training(model, capacity=4, every=2)
    train(model, optimizer, range(5))
    stats.flush()
    train(model, optimizer, range(5, 7))
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)

    twin = copy.deepcopy(model)
    resumed, loaded = training(twin, capacity=9)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    train(model, optimizer, range(7, 12))
    train(twin, resumed, range(7, 12))
    first, second = stats.flush(), loaded.flush()
    assert first.steps.tolist() == second.steps.tolist() == [6, 8, 10]
    for field in dataclasses.fields(first):
        np.testing.assert_array_equal(getattr(first, field.name), getattr(second, field.name))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_watching_changes_nothing() -> None:
    watched, plain = small_net(), small_net()
    optimizer, _ = training(watched, capacity=2)
    other, stats = training(plain)
    stats.detach()
    train(watched, optimizer, range(5))
    train(plain, other, range(5))
    assert all(torch.equal(a, b) for a, b in zip(watched.parameters(), plain.parameters(), strict=True))
