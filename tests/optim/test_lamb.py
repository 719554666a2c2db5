import numpy as np
import pytest
import torch

from optim import LAMB


def reference(problem, *, betas=(0.9, 0.99), eps=1e-6, weight_decay=0.0, bias_correction=True, maximize=False):
    """LAMB as DESIGN.md states it, tensor by tensor in float64."""
    weights = [start.copy() for start in problem.starts]
    firsts = [np.zeros_like(start) for start in weights]
    seconds = [np.zeros_like(start) for start in weights]
    path = []
    for step, gradients in enumerate(problem.gradients):
        for k, gradient in enumerate(gradients):
            w, g = weights[k], -gradient if maximize else gradient
            adapted = w.ndim > 1
            firsts[k] = betas[0] * firsts[k] + (1 - betas[0]) * g
            seconds[k] = betas[1] * seconds[k] + (1 - betas[1]) * g**2
            m, v = firsts[k], seconds[k]
            if bias_correction:
                m, v = m / (1 - betas[0] ** (step + 1)), v / (1 - betas[1] ** (step + 1))
            u = m / (np.sqrt(v) + eps)
            if adapted:
                u = u + weight_decay * w
            norm_w, norm_u = np.sqrt((w**2).sum()), np.sqrt((u**2).sum())
            ratio = norm_w / norm_u if adapted and norm_w > 0 and norm_u > 0 else 1.0
            weights[k] = w - problem.lr(step) * 0.1 * ratio * u
        path.append([w.copy() for w in weights])
    return path


def make(**knobs):
    class Tenth(LAMB):  # the problem's learning rates, at a size that suits LAMB
        def step(self, closure=None):
            for group in self.param_groups:
                group["lr"] *= 0.1
            return super().step(closure)

    return lambda p: Tenth(p, lr=0.1, **{"betas": (0.9, 0.99), **knobs})


CASES = [
    {},
    {"weight_decay": 0.1},
    {"bias_correction": False},
    {"weight_decay": 0.1, "bias_correction": False, "maximize": True},
    {"betas": (0.0, 0.9), "eps": 1e-2},
    {"betas": (0.5, 0.0)},
]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("knobs", CASES, ids=str)
@pytest.mark.usefixtures("way")
def test_trajectory_follows_the_formula(problem, dtype, tolerance, knobs):
    problem.assert_close(problem.run(make(**knobs), dtype), reference(problem, **knobs), tolerance)


@pytest.mark.parametrize("knobs", CASES[1:], ids=str)
def test_the_reference_feels_every_knob(problem, knobs):
    plain, other = reference(problem)[-1], reference(problem, **knobs)[-1]
    assert max(np.abs(a - b).max() for a, b in zip(plain, other, strict=True)) > 1e-3


def test_is_adam_where_nothing_is_adapted():
    generator = torch.Generator().manual_seed(5)
    start = torch.randn(9, generator=generator, dtype=torch.float64)
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    mine = LAMB([ours], lr=0.01, eps=1e-8, weight_decay=0.3)
    torchs = torch.optim.Adam([theirs], lr=0.01, eps=1e-8)
    for _ in range(12):
        ours.grad = torch.randn(9, generator=generator, dtype=torch.float64)
        theirs.grad = ours.grad.clone()
        mine.step()
        torchs.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


def test_step_count_is_the_parameters_own():
    busy, late = (torch.nn.Parameter(torch.ones(2, 2, dtype=torch.float64)) for _ in range(2))
    optimizer = LAMB([busy, late], lr=0.1)
    for count in range(3):
        busy.grad = torch.ones(2, 2, dtype=torch.float64)
        late.grad = torch.ones(2, 2, dtype=torch.float64) if count == 2 else None
        optimizer.step()
    assert int(optimizer.state[busy]["step"]) == 3
    assert int(optimizer.state[late]["step"]) == 1
    # bias correction makes a first step of 0.1 * ||w||, whenever it comes
    assert float((late.detach() - 1).norm()) == pytest.approx(0.2, rel=1e-5)


@pytest.mark.parametrize("betas", [0.9, (0.9,), (1.0, 0.9), (0.9, -0.1), (float("nan"), 0.9), ("a", 0.9), None])
def test_illegal_betas_are_refused_with_their_values(betas):
    with pytest.raises(ValueError, match=r"beta.*but got \(beta"):
        LAMB([torch.nn.Parameter(torch.ones(2))], lr=0.1, betas=betas)
