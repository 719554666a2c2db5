import itertools
import math

import numpy as np
import pytest
import torch

from optim import LARS, TVLARS, sigmoid_decay, tvlars

ETA = 0.05


def reference(
    problem,
    *,
    lambda_=0.6,
    delay_steps=5,
    alpha=1.0,
    gamma_min=1e-3,
    momentum=0.9,
    weight_decay=0.0,
    nesterov=False,
    maximize=False,
):
    """TVLARS as DESIGN.md states it, tensor by tensor in float64."""
    weights = [start.copy() for start in problem.starts]
    buffers = [np.zeros_like(start) for start in weights]
    path = []
    for step, gradients in enumerate(problem.gradients):
        phi = 1 / (alpha + math.exp(lambda_ * (step - delay_steps))) + gamma_min
        for k, gradient in enumerate(gradients):
            w, g = weights[k], -gradient if maximize else gradient
            adapted = w.ndim > 1
            d = g + weight_decay * w if adapted else g
            norm_w, norm_d = np.sqrt((w**2).sum()), np.sqrt((d**2).sum())
            q = ETA * norm_w / norm_d if adapted and norm_w > 0 and norm_d > 0 else 1.0
            buffers[k] = momentum * buffers[k] + phi * q * d
            move = phi * q * d + momentum * buffers[k] if nesterov else buffers[k]
            weights[k] = w - problem.lr(step) * move
        path.append([w.copy() for w in weights])
    return path


CHANGES = [
    {},
    {"lambda_": 0.01, "delay_steps": 2.5},
    {"alpha": 0.1, "gamma_min": 0.2},
    {"momentum": 0.0},
]


def make(**knobs):
    return lambda p: TVLARS(p, lr=1.0, trust_coefficient=ETA, **{"lambda_": 0.6, "delay_steps": 5, **knobs})


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize(
    ("weight_decay", "nesterov", "maximize"),
    [*itertools.product([0.0, 0.1], [False, True], [False]), (0.1, False, True)],
)
@pytest.mark.usefixtures("way")
def test_trajectory_follows_the_formula(problem, dtype, tolerance, weight_decay, nesterov, maximize):
    knobs = {"weight_decay": weight_decay, "nesterov": nesterov, "maximize": maximize}
    path = problem.run(make(**knobs), dtype)
    problem.assert_close(path, reference(problem, **knobs), tolerance)


@pytest.mark.parametrize("change", CHANGES)
def test_every_knob_acts_as_in_the_formula(problem, change):
    expected = reference(problem, **change)
    problem.assert_close(problem.run(make(**change)), expected, 1e-12)
    if change:
        plain = reference(problem)[-1]
        assert max(np.abs(a - b).max() for a, b in zip(plain, expected[-1], strict=True)) > 1e-3


def test_is_lars_times_phi_at_the_first_step():
    generator = torch.Generator().manual_seed(0)
    for shape in ((4, 4), (4,)):  # phi acts also where nothing is adapted
        start = torch.randn(shape, generator=generator, dtype=torch.float64)
        gradient = torch.randn(shape, generator=generator, dtype=torch.float64)
        moves = []
        for factory in (LARS, lambda p, lr: TVLARS(p, lr, lambda_=0.1, delay_steps=20)):
            weight = torch.nn.Parameter(start.clone())
            weight.grad = gradient.clone()
            factory([weight], lr=0.1).step()
            moves.append(weight.detach() - start)
        phi = 1 / (1 + math.exp(-0.1 * 20)) + 1e-3
        torch.testing.assert_close(moves[1], phi * moves[0], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("step", [0, 3, 10**6, 10**15])
@pytest.mark.parametrize("lambda_", [0.0, 1e-6, 0.3, 1e300])
@pytest.mark.parametrize("where", ["host", "device"])
def test_phi_on_host_and_device_is_that_of_the_schedule(monkeypatch, step, lambda_, where):
    if where == "device":  # as in a compiled step, where nothing may be read on the host
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
        monkeypatch.setattr(tvlars, "sigmoid_decay", None)
    weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = TVLARS([weight], lr=1.0, lambda_=lambda_, delay_steps=7, momentum=0.0)
    optimizer.state[weight]["step"] = torch.tensor(step)
    weight.grad = torch.ones(1, dtype=torch.float64)
    optimizer.step()
    assert -float(weight.detach()) == pytest.approx(sigmoid_decay(step, lambda_, 7), rel=1e-12)


def test_all_parameters_share_one_time():
    first, idle, late = (torch.nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in range(3))
    optimizer = TVLARS([first, idle], lr=1.0, lambda_=0.5, delay_steps=2, momentum=0.0)
    for _ in range(4):
        first.grad = torch.ones(1, dtype=torch.float64)
        optimizer.step()
    optimizer.add_param_group({"params": [late]})
    for param in (first, idle, late):
        with torch.no_grad():
            param.zero_()
        param.grad = torch.ones(1, dtype=torch.float64)
    optimizer.step()
    phi = sigmoid_decay(4, 0.5, 2)
    assert [-float(param.detach()) for param in (first, idle, late)] == pytest.approx([phi] * 3, rel=1e-12)
    assert {int(optimizer.state[param]["step"]) for param in (first, idle, late)} == {5}
