import itertools

import numpy as np
import pytest
import torch

from optim import LARS

ETA = 0.05


def reference(problem, *, momentum=0.9, weight_decay=0.0, nesterov=False, maximize=False, eta=ETA):
    """LARS as DESIGN.md states it, tensor by tensor in float64."""
    weights = [start.copy() for start in problem.starts]
    buffers = [np.zeros_like(start) for start in weights]
    path = []
    for step, gradients in enumerate(problem.gradients):
        for k, gradient in enumerate(gradients):
            w, g = weights[k], -gradient if maximize else gradient
            adapted = w.ndim > 1
            d = g + weight_decay * w if adapted else g
            norm_w, norm_d = np.sqrt((w**2).sum()), np.sqrt((d**2).sum())
            q = eta * norm_w / norm_d if adapted and norm_w > 0 and norm_d > 0 else 1.0
            buffers[k] = momentum * buffers[k] + q * d
            move = q * d + momentum * buffers[k] if nesterov else buffers[k]
            weights[k] = w - problem.lr(step) * move
        path.append([w.copy() for w in weights])
    return path


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize(
    ("momentum", "weight_decay", "nesterov", "maximize"),
    [*itertools.product([0.9], [0.0, 0.1], [False, True], [False, True]), (0.0, 0.1, False, False)],
)
@pytest.mark.usefixtures("way")
def test_trajectory_follows_the_formula(problem, dtype, tolerance, momentum, weight_decay, nesterov, maximize):
    knobs = {
        "momentum": momentum,
        "weight_decay": weight_decay,
        "nesterov": nesterov,
        "maximize": maximize,
    }
    path = problem.run(lambda p: LARS(p, lr=1.0, trust_coefficient=ETA, **knobs), dtype)
    problem.assert_close(path, reference(problem, **knobs), tolerance)


def test_the_reference_feels_every_knob(problem):
    plain = reference(problem)[-1]
    for change in (
        {"momentum": 0.5},
        {"weight_decay": 0.1},
        {"nesterov": True},
        {"maximize": True},
        {"eta": 0.06},
    ):
        other = reference(problem, **change)[-1]
        assert max(np.abs(a - b).max() for a, b in zip(plain, other, strict=True)) > 1e-3, change


@pytest.mark.parametrize("nesterov", [False, True])
def test_is_sgd_where_nothing_is_adapted(nesterov):
    generator = torch.Generator().manual_seed(3)
    shapes = [(), (1,), (7,), (300,)]
    starts = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    ours = [torch.nn.Parameter(start.clone()) for start in starts]
    theirs = [torch.nn.Parameter(start.clone()) for start in starts]
    # decay would be theirs alone: ours never decays such tensors
    mine = LARS(ours, lr=0.1, weight_decay=0.3, nesterov=nesterov)
    torchs = torch.optim.SGD(theirs, lr=0.1, momentum=0.9, nesterov=nesterov)
    for _ in range(12):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(a.shape, generator=generator, dtype=torch.float64)
            b.grad = a.grad.clone()
        mine.step()
        torchs.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("scale", [2.0**-30, 2.0**30, 2.0**50])
@pytest.mark.usefixtures("way")
def test_step_ignores_the_scale_of_the_gradient(scale):
    # at the far ends of the ratio, where its distance from 1 would lose all digits
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(8, 5, generator=generator)
    gradient = torch.randn(8, 5, generator=generator)
    ends = []
    for factor in (1.0, scale):
        weight = torch.nn.Parameter(start.clone())
        optimizer = LARS([weight], lr=1.0)
        for _ in range(3):
            weight.grad = gradient * factor
            optimizer.step()
        ends.append(weight.detach() - start)
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-5, atol=1e-9)


def test_first_step_has_the_length_of_the_formula():
    weight = torch.nn.Parameter(torch.full((10, 10), 2.0, dtype=torch.float64))
    weight.grad = torch.full((10, 10), 123.0, dtype=torch.float64)
    LARS([weight], lr=0.5, trust_coefficient=1e-3).step()
    moved = (weight.detach() - 2.0).norm()
    assert float(moved) == pytest.approx(0.5 * 1e-3 * 20.0, rel=1e-12)


def test_a_gradient_that_cancels_the_decay_keeps_its_digits():
    # d is tiny beside both of its terms: a norm made of dot products would be noise here
    generator = torch.Generator().manual_seed(2)
    start = torch.randn(30, 30, generator=generator, dtype=torch.float64)
    gradient = -0.5 * start + 1e-9 * torch.randn(30, 30, generator=generator, dtype=torch.float64)
    weight = torch.nn.Parameter(start.clone())
    weight.grad = gradient
    LARS([weight], lr=1.0, weight_decay=0.5, trust_coefficient=1e-3).step()
    assert float((weight.detach() - start).norm() / start.norm()) == pytest.approx(1e-3, rel=1e-8)
