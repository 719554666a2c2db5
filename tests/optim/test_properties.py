"""Any shapes, scales, dtypes and hyperparameters: the optimizers follow the formulas and keep their promises."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from optim import CLARS, LAMB, LARS, TVLARS

STEPS = 5
TOLERANCE = {torch.float64: 1e-11, torch.float32: 2e-4}
QUICK = settings(max_examples=60, deadline=None, derandomize=True)

shapes = st.lists(st.lists(st.integers(1, 7), min_size=0, max_size=4).map(tuple), min_size=1, max_size=4)
seeds = st.integers(0, 2**31 - 1)
scales = st.sampled_from([1e-4, 1e-2, 1.0, 1e2, 1e4])
dtypes = st.sampled_from([torch.float64, torch.float32])
momenta = st.sampled_from([0.0, 0.5, 0.9, 0.99])
decays = st.sampled_from([0.0, 1e-4, 5e-2])
rates = st.floats(1e-4, 1.0)


def draw(shapes: list[tuple[int, ...]], seed: int, scale: float) -> tuple[list[Any], list[list[Any]]]:
    """Start values and gradients that float32 holds exactly."""
    generator = np.random.default_rng(seed)

    def values(shape: tuple[int, ...], size: float) -> Any:
        return np.asarray(generator.normal(size=shape) * size).astype(np.float32).astype(np.float64)

    return [values(s, 1.0) for s in shapes], [[values(s, scale) for s in shapes] for _ in range(STEPS)]


def run(optimizer: Any, params: list[Any], gradients: list[list[Any]]) -> None:
    for step in gradients:
        for param, gradient in zip(params, step, strict=True):
            param.grad = torch.tensor(gradient, dtype=param.dtype)
        optimizer.step()
        for param, gradient in zip(params, step, strict=True):
            assert torch.equal(param.grad, torch.tensor(gradient, dtype=param.dtype))


def assert_near(params: list[Any], expected: list[Any], starts: list[Any], dtype: torch.dtype) -> None:
    """Close by how far they came, but for what the parameters themselves are rounded by at each step."""
    for param, want, start in zip(params, expected, starts, strict=True):
        came, size = np.linalg.norm(want - start), max(np.linalg.norm(want), np.linalg.norm(start))
        allowed = TOLERANCE[dtype] * came + 2 * STEPS * torch.finfo(dtype).eps * size
        assert np.linalg.norm(param.detach().double().numpy() - want) <= allowed


@given(shapes, seeds, scales, dtypes, momenta, decays, rates, st.booleans(), st.floats(1e-4, 1e-1))
@example([(4, 3)], 0, 1e4, torch.float64, 0.9, 0.0, 1.0, False, 1e-4)  # a factor whose distance from 1 has no digits
@QUICK
def test_lars(
    shapes: list[tuple[int, ...]],
    seed: int,
    scale: float,
    dtype: torch.dtype,
    momentum: float,
    decay: float,
    lr: float,
    nesterov: bool,
    eta: float,
) -> None:
    nesterov = nesterov and momentum > 0
    starts, gradients = draw(shapes, seed, scale)
    params = [torch.nn.Parameter(torch.tensor(start, dtype=dtype)) for start in starts]
    run(
        LARS(params, lr, momentum=momentum, weight_decay=decay, trust_coefficient=eta, nesterov=nesterov),
        params,
        gradients,
    )
    expected = [
        layer_wise(w, [g[k] for g in gradients], lr, momentum, decay, eta, nesterov) for k, w in enumerate(starts)
    ]
    assert_near(params, expected, starts, dtype)


@given(shapes, seeds, scales, dtypes, momenta, decays, rates, st.floats(1e-6, 5.0), st.floats(0.0, 10.0), st.booleans())
@QUICK
def test_tvlars(
    shapes: list[tuple[int, ...]],
    seed: int,
    scale: float,
    dtype: torch.dtype,
    momentum: float,
    decay: float,
    lr: float,
    lambda_: float,
    delay: float,
    nesterov: bool,
) -> None:
    nesterov = nesterov and momentum > 0
    starts, gradients = draw(shapes, seed, scale)
    params = [torch.nn.Parameter(torch.tensor(start, dtype=dtype)) for start in starts]
    knobs = {"momentum": momentum, "weight_decay": decay, "trust_coefficient": 0.02, "nesterov": nesterov}
    run(TVLARS(params, lr, lambda_=lambda_, delay_steps=delay, **knobs), params, gradients)
    phi = [1 / (1 + math.exp(lambda_ * (t - delay))) + 1e-3 for t in range(STEPS)]
    expected = [
        layer_wise(w, [g[k] for g in gradients], lr, momentum, decay, 0.02, nesterov, phi) for k, w in enumerate(starts)
    ]
    assert_near(params, expected, starts, dtype)


class GivenMeans:
    """Per-sample norms out of the air, zeros among them; one for each weight and step."""

    def __init__(self, means: Any) -> None:
        self.means = means  # (steps, parameters)
        self.known: dict[int, int] = {}  # place of a parameter, by its id
        self.step = 0

    def mean_norms(self, weights: Any) -> SimpleNamespace:
        found = [self.means[self.step][self.known[id(weight)]] for weight in weights]
        return SimpleNamespace(means=torch.tensor(found, dtype=torch.float64))

    def clear(self, weights: Any) -> None:
        self.step += 1

    def __contains__(self, weight: object) -> bool:
        return True


@given(shapes, seeds, scales, dtypes, momenta, decays, rates, st.booleans(), st.booleans())
@QUICK
def test_clars(
    shapes: list[tuple[int, ...]],
    seed: int,
    scale: float,
    dtype: torch.dtype,
    momentum: float,
    decay: float,
    lr: float,
    nesterov: bool,
    maximize: bool,
) -> None:
    nesterov = nesterov and momentum > 0
    starts, gradients = draw(shapes, seed, scale)
    means = np.maximum(np.random.default_rng(seed).normal(loc=1.0, size=(STEPS, len(shapes))), 0) * scale
    params = [torch.nn.Parameter(torch.tensor(start, dtype=dtype)) for start in starts]
    given_means = GivenMeans(means)
    given_means.known = {id(param): k for k, param in enumerate(params)}
    knobs = {"momentum": momentum, "weight_decay": decay, "trust_coefficient": 0.02, "nesterov": nesterov}
    run(CLARS(params, lr, sample_norms=given_means, maximize=maximize, **knobs), params, gradients)
    sign = -1 if maximize else 1
    expected = [
        layer_wise(w, [sign * g[k] for g in gradients], lr, momentum, decay, 0.02, nesterov, means=means[:, k])
        for k, w in enumerate(starts)
    ]
    assert_near(params, expected, starts, dtype)


def layer_wise(
    start: Any,
    gradients: list[Any],
    lr: float,
    momentum: float,
    decay: float,
    eta: float,
    nesterov: bool,
    phi: list[float] | None = None,
    means: Any = None,
) -> Any:
    """LARS, TVLARS with phi, or CLARS with the mean norms, for one tensor: (steps,) each."""
    w, buffer = start.copy(), np.zeros_like(start)
    for t, g in enumerate(gradients):
        adapted = w.ndim > 1
        d = g + decay * w if adapted else g
        of_weight = np.sqrt((w**2).sum())
        divisor = np.sqrt((d**2).sum()) if means is None else means[t] + decay * of_weight
        q = eta * of_weight / divisor if adapted and min(of_weight, divisor) > 0 else 1.0
        q *= phi[t] if phi else 1.0
        buffer = momentum * buffer + q * d
        w = w - lr * (q * d + momentum * buffer if nesterov else buffer)
    return w


@given(shapes, seeds, scales, dtypes, decays, rates, st.booleans(), st.sampled_from([(0.9, 0.999), (0.5, 0.9)]))
@QUICK
def test_lamb(
    shapes: list[tuple[int, ...]],
    seed: int,
    scale: float,
    dtype: torch.dtype,
    decay: float,
    lr: float,
    correct: bool,
    betas: tuple[float, float],
) -> None:
    starts, gradients = draw(shapes, seed, scale)
    params = [torch.nn.Parameter(torch.tensor(start, dtype=dtype)) for start in starts]
    run(LAMB(params, lr, betas=betas, eps=1e-6, weight_decay=decay, bias_correction=correct), params, gradients)
    expected = []
    for k, start in enumerate(starts):
        w, m, v = start.copy(), np.zeros_like(start), np.zeros_like(start)
        for t, g in enumerate((step[k] for step in gradients), start=1):
            m = betas[0] * m + (1 - betas[0]) * g
            v = betas[1] * v + (1 - betas[1]) * g * g
            m_hat = m / (1 - betas[0] ** t) if correct else m
            v_hat = v / (1 - betas[1] ** t) if correct else v
            adapted = w.ndim > 1
            u = m_hat / (np.sqrt(v_hat) + 1e-6) + (decay * w if adapted else 0.0)
            norms = np.sqrt((w**2).sum()), np.sqrt((u**2).sum())
            w = w - lr * (norms[0] / norms[1] if adapted and min(norms) > 0 else 1.0) * u
        expected.append(w)
    assert_near(params, expected, starts, dtype)


@given(seeds, st.floats(1e-3, 1e3))
@QUICK
def test_a_layers_step_does_not_feel_the_scale_of_its_gradient(seed: int, factor: float) -> None:
    """What layer-wise adaptation is for: without decay the direction alone counts."""
    starts, gradients = draw([(4, 3), (2, 3, 2, 2)], seed, 1.0)
    ends = []
    for scale in (1.0, factor):
        params = [torch.nn.Parameter(torch.tensor(start)) for start in starts]
        run(LARS(params, 0.5, trust_coefficient=0.02), params, [[scale * g for g in step] for step in gradients])
        ends.append(params)
    for one, other in zip(*ends, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("optimizer", [LARS, LAMB])
@given(shapes=shapes, seed=seeds)
@QUICK
def test_parameters_do_not_feel_their_neighbours(optimizer: Any, shapes: list[tuple[int, ...]], seed: int) -> None:
    starts, gradients = draw(shapes, seed, 1.0)
    together = [torch.nn.Parameter(torch.tensor(start)) for start in starts]
    run(optimizer(together, 0.1, weight_decay=0.01), together, gradients)
    for k, start in enumerate(starts):
        alone = [torch.nn.Parameter(torch.tensor(start))]
        run(optimizer(alone, 0.1, weight_decay=0.01), alone, [[step[k]] for step in gradients])
        torch.testing.assert_close(alone[0], together[k], rtol=1e-12, atol=1e-14)
