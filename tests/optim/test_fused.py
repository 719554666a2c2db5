import itertools

import pytest
import torch

from optim import LAMB, LARS, TVLARS, fused

PHI = {"lambda_": 0.1, "delay_steps": 2}


def run(make, dtype=torch.float64, steps=6):
    generator = torch.Generator().manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(shape, generator=generator, dtype=dtype)) for shape in ((3,), (4, 5))]
    optimizer = make(params)
    for _ in range(steps):
        for param in params:
            param.grad = torch.randn(param.shape, generator=generator, dtype=dtype)
        optimizer.step()
    return params


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("nesterov", "maximize"), list(itertools.product([False, True], repeat=2)))
@pytest.mark.parametrize("coefficient", [0.1, 1e-5, 1e-8], ids=str)
@pytest.mark.parametrize("kind", [LARS, TVLARS])
def test_sgd_does_as_single_operations(monkeypatch, kind, coefficient, nesterov, maximize, dtype):
    knobs = {"weight_decay": 0.1, "trust_coefficient": coefficient, "nesterov": nesterov, "maximize": maximize}
    knobs |= PHI if kind is TVLARS else {}
    lr = 0.1 / coefficient

    found = run(lambda p: kind(p, lr, **knobs), dtype)
    monkeypatch.setattr(fused, "_DTYPES", set())
    expected = run(lambda p: kind(p, lr, **knobs), dtype)
    tolerance = 1e-12 if dtype is torch.float64 else 1e-5
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=0.1 * tolerance)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("knobs", [{}, {"weight_decay": 0.1, "maximize": True}, {"bias_correction": False}], ids=str)
def test_adam_does_as_single_operations(monkeypatch, knobs, dtype):
    found = run(lambda p: LAMB(p, 0.1, **knobs), dtype)
    monkeypatch.setattr(fused, "_DTYPES", set())
    expected = run(lambda p: LAMB(p, 0.1, **knobs), dtype)
    tolerance = 1e-12 if dtype is torch.float64 else 1e-5
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=0.1 * tolerance)


def test_kernels_are_used_only_for_tensors_that_are_alike():
    plain, other = torch.zeros(3, 4), torch.zeros(3, 4, dtype=torch.bfloat16)
    for tensors, fit in (
        ((plain, plain), True),
        ((plain, other), False),
        ((other, other), False),
        ((plain.t(),), False),
    ):
        assert fused.adam_fits(tensors) is fit
        assert fused.sgd_fits(tensors, {"momentum": 0.9}) is fit
    assert not fused.sgd_fits((plain,), {"momentum": 0.0})


def test_without_the_kernels_there_are_the_single_operations(monkeypatch):
    for name in ("_SGD", "_ADAM"):
        monkeypatch.setattr(fused, name, None)
    assert not fused.adam_fits((torch.zeros(3),))
    assert not fused.sgd_fits((torch.zeros(3),), {"momentum": 0.9})
    for make in (lambda p: LARS(p, 0.1), lambda p: LAMB(p, 0.1)):
        assert all(torch.isfinite(param).all() for param in run(make))
