"""Equality with timm's optimizers where the definitions coincide.

LARS: timm divides by `||g|| + weight_decay * ||w|| + eps`, ours by `||g + weight_decay * w||`: the same without
weight decay and with eps 0. timm adapts all tensors or none of a group, so only tensors of several dimensions
are compared, with `always_adapt=True`.

LAMB: timm clips the global gradient norm (`max_grad_norm=None` switches that off), keeps one step count a group,
and adapts only groups with weight decay, unless `always_adapt=True`; then also tensors of one dimension. Its
`sqrt(v) / sqrt(1 - beta2^t) + eps` is our `sqrt(v_hat) + eps`.
"""

import pytest
import torch

from optim import LAMB, LARS

timm_optim = pytest.importorskip("timm.optim", reason="timm is a test-only dependency")

SHAPES = ((4, 3), (2, 3, 4), (5, 2, 3, 3))


def run(make, foreach_grads):
    generator = torch.Generator().manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64)) for shape in SHAPES]
    with torch.no_grad():
        params[1].zero_()  # a layer without weights has ratio 1 in both
    optimizer = make(params)
    path = []
    for step in range(12):
        for group in optimizer.param_groups:
            group["lr"] = (0.3, 1.0, 0.7, 0.05)[step % 4]
        for param in params:
            param.grad = foreach_grads * torch.randn(param.shape, generator=generator, dtype=torch.float64)
        optimizer.step()
        path.append([param.detach().clone() for param in params])
    return path


def assert_same_path(ours, theirs):
    for step, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        for x, y in zip(a, b, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-13, msg=lambda text, at=step: f"step {at}: {text}")


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_lars_without_weight_decay(momentum, nesterov):
    shared = {"lr": 0.1, "momentum": momentum, "nesterov": nesterov}
    ours = run(lambda p: LARS(p, trust_coefficient=0.02, **shared), 0.5)
    theirs = run(lambda p: timm_optim.Lars(p, trust_coeff=0.02, eps=0.0, always_adapt=True, **shared), 0.5)
    assert_same_path(ours, theirs)


def test_lars_with_weight_decay_differs_in_the_denominator():
    shared = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.3}
    ours = run(lambda p: LARS(p, trust_coefficient=0.02, **shared), 0.5)
    theirs = run(lambda p: timm_optim.Lars(p, trust_coeff=0.02, eps=0.0, **shared), 0.5)
    # the sum of the norms is never below the norm of the sum: timm's steps are the shorter ones
    assert not torch.allclose(ours[0][0], theirs[0][0], rtol=1e-3)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("bias_correction", [True, False])
def test_lamb_without_clipping(weight_decay, bias_correction):
    shared = {"lr": 0.1, "betas": (0.9, 0.99), "eps": 1e-6, "weight_decay": weight_decay}
    shared["bias_correction"] = bias_correction
    ours = run(lambda p: LAMB(p, **shared), 0.5)
    theirs = run(lambda p: timm_optim.Lamb(p, max_grad_norm=None, always_adapt=True, **shared), 0.5)
    assert_same_path(ours, theirs)
