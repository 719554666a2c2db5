import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from optim import batch_scale, constant, polynomial_decay, sigmoid_decay, warmup_cosine

non_negative = st.floats(0, allow_infinity=False, allow_nan=False)
positive = st.floats(0, exclude_min=True, allow_infinity=False, allow_nan=False)
times = st.integers(0, 10**500)


@settings(deadline=None, max_examples=300)
@given(times, times, non_negative, non_negative, st.floats(1e-6, 1e6), st.floats(0, 10))
def test_phi_falls_within_its_bounds_at_any_time(t, later, lambda_, delay, alpha, gamma_min):
    first, second = sorted((t, later))
    early = sigmoid_decay(first, lambda_, delay, alpha, gamma_min)
    late = sigmoid_decay(second, lambda_, delay, alpha, gamma_min)
    slack = 1 + 1e-12
    assert gamma_min <= late <= early * slack
    assert early <= (1 / alpha + gamma_min) * slack


@settings(deadline=None)
@given(times, non_negative, non_negative, positive, non_negative)
def test_phi_never_overflows(t, lambda_, delay, alpha, gamma_min):
    phi = sigmoid_decay(t, lambda_, delay, alpha, gamma_min)
    assert not math.isnan(phi)
    assert math.isfinite(phi) or 1 / alpha + gamma_min == math.inf


@pytest.mark.parametrize("lambda_", [1e-6, 1e-3, 0.1, 3.0])
@pytest.mark.parametrize("delay", [0, 10, 50.5])
@pytest.mark.parametrize("alpha", [0.1, 1.0])
def test_phi_is_the_formula(lambda_, delay, alpha):
    for t in (0, 1, 10, 50, 51, 100):
        expected = 1 / (alpha + math.exp(lambda_ * (t - delay))) + 0.25
        assert sigmoid_decay(t, lambda_, delay, alpha, 0.25) == pytest.approx(expected, rel=1e-13)


def test_known_values_of_phi():
    assert sigmoid_decay(0, 0.1, 20) == pytest.approx(1 / (1 + math.exp(-2)) + 1e-3, rel=1e-15)
    assert sigmoid_decay(20, 0.1, 20) == pytest.approx(0.501, rel=1e-15)
    assert sigmoid_decay(0, 1e-6, 0) == pytest.approx(0.501, rel=1e-15)
    assert sigmoid_decay(10**9, 0.1, 20) == 1e-3
    assert sigmoid_decay(0, 5.0, 1000, alpha=0.5, gamma_min=0) == pytest.approx(2.0)


@pytest.mark.parametrize(
    "broken",
    [
        {"step": -1},
        {"step": math.nan},
        {"lambda_": -0.1},
        {"lambda_": math.inf},
        {"delay_steps": -1},
        {"delay_steps": math.nan},
        {"alpha": 0.0},
        {"alpha": math.inf},
        {"gamma_min": -1e-9},
    ],
    ids=str,
)
def test_illegal_arguments_of_phi_are_named(broken):
    ((name, value),) = broken.items()
    with pytest.raises(ValueError, match=rf"must hold, but got \({name}={value}\)"):
        sigmoid_decay(**{"step": 0, "lambda_": 0.1, "delay_steps": 5, **broken})


def test_end_points_of_the_warmup():
    one = [warmup_cosine(t, 4, 20) for t in range(6)]
    zero = [warmup_cosine(t, 4, 20, start="zero") for t in range(6)]
    assert one[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert zero[:5] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert one[5] == zero[5] < 1.0


def test_cosine_between_its_ends():
    assert warmup_cosine(0, 0, 8) == 1.0
    assert warmup_cosine(4, 0, 8) == pytest.approx(0.5 + 0.001 * 0.5, rel=1e-15)
    assert warmup_cosine(8, 0, 8) == warmup_cosine(10**500, 0, 8) == 0.001
    assert warmup_cosine(12, 4, 20, floor=0.2) == pytest.approx(0.6, rel=1e-15)
    assert warmup_cosine(3, 4, 4) == 1.0
    assert warmup_cosine(4, 4, 4) == 0.001


@pytest.mark.parametrize(("warmup", "total"), [(0, 1), (0, 50), (7, 50), (50, 50)])
def test_schedule_is_the_formula(warmup, total):
    for t in range(total):
        if t < warmup:
            expected = float(Fraction(t + 1, warmup))
        else:
            cosine = (1 + math.cos(math.pi * (t - warmup) / (total - warmup))) / 2
            expected = cosine + 0.001 * (1 - cosine)
        assert warmup_cosine(t, warmup, total) == pytest.approx(expected, rel=1e-13)


@settings(deadline=None)
@given(times, st.integers(0, 1000), st.integers(1, 10**6), st.floats(0, 1))
def test_schedule_stays_between_floor_and_one(t, warmup, rest, floor):
    factor = warmup_cosine(t, warmup, warmup + rest, floor)
    assert 0 < factor <= 1 or floor == 0
    assert t < warmup or factor >= floor


@pytest.mark.parametrize(
    "broken",
    [
        {"step": -1},
        {"warmup_steps": -1},
        {"warmup_steps": 21},
        {"total_steps": 0},
        {"floor": -0.1},
        {"floor": 1.1},
        {"start": "two"},
    ],
    ids=str,
)
def test_illegal_arguments_of_the_warmup_are_named(broken):
    (value,) = broken.values()
    with pytest.raises(ValueError, match=rf"but got .*{value}"):
        warmup_cosine(**{"step": 0, "warmup_steps": 4, "total_steps": 20, **broken})


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0, 3.7])
@pytest.mark.parametrize(("warmup", "total", "floor"), [(0, 1, 0.0), (0, 9, 0.0), (4, 20, 0.1), (20, 20, 1.0)])
def test_polynomial_is_the_formula(power, warmup, total, floor):
    for t in range(total + 2):
        if t < warmup:
            expected = (t + 1) / warmup
        elif t >= total:
            expected = floor
        else:
            expected = floor + (1 - floor) * ((total - t) / (total - warmup)) ** power
        assert polynomial_decay(t, total, power, floor, warmup) == pytest.approx(expected, rel=1e-13)


@settings(deadline=None)
@given(times, st.integers(0, 1000), st.integers(1, 10**6), st.floats(1e-3, 50), st.floats(0, 1))
def test_polynomial_stays_between_floor_and_one_and_falls(t, warmup, rest, power, floor):
    factor = polynomial_decay(t, warmup + rest, power, floor, warmup)
    assert 0 <= factor <= 1
    assert t < warmup or floor <= factor
    assert t < warmup or polynomial_decay(t + 1, warmup + rest, power, floor, warmup) <= factor


def test_constant_and_batch_scales():
    assert constant(0) == constant(10**400) == 1.0
    assert batch_scale(512, "linear") == 2.0
    assert batch_scale(1077, "linear", 1000) == pytest.approx(1.077, rel=1e-15)
    assert batch_scale(64, "sqrt") == 0.5
    assert batch_scale(64, "none") == 1.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: polynomial_decay(-1, 5), r"step=-1"),
        (lambda: polynomial_decay(0, 5, power=0), r"0 < power < inf .*power=0"),
        (lambda: polynomial_decay(0, 5, floor=1.5), r"floor=1.5"),
        (lambda: polynomial_decay(0, 5, warmup_steps=6), r"warmup_steps=6"),
        (lambda: polynomial_decay(0, 0), r"total_steps=0"),
        (lambda: constant(-1), r"step=-1"),
        (lambda: batch_scale(0, "linear"), r"batch_size=0"),
        (lambda: batch_scale(8, "linear", 0), r"base_batch_size=0"),
        (lambda: batch_scale(8, "cubic"), r"linear, sqrt, none, but got 'cubic'"),
    ],
)
def test_illegal_arguments_of_the_others_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "factor",
    [
        lambda t: warmup_cosine(t, 2, 4),
        lambda t: polynomial_decay(t, 6, warmup_steps=2),
        lambda t: sigmoid_decay(t, 0.5, 3),
        constant,
    ],
    ids=["warmup_cosine", "polynomial", "sigmoid", "constant"],
)
def test_works_as_a_factor_of_lambda_lr(factor):
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=2.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    for step in range(8):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(2.0 * factor(step), rel=1e-15)
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize(
    ("schedule", "arguments"),
    [
        (warmup_cosine, (1, 4, 9)),
        (warmup_cosine, (6, 4, 9, 0.25)),
        (polynomial_decay, (1, 9, 2.0, 0.5, 4)),
        (polynomial_decay, (6, 9, 0.5, 0.25, 4)),
        (sigmoid_decay, (1, 0.5, 4.0, 0.75, 0.125)),
        (sigmoid_decay, (7, 0.5, 4.0, 0.75, 0.125)),
        (batch_scale, (512, "linear")),
        (batch_scale, (512, "sqrt")),
        (constant, (3,)),
    ],
)
def test_numbers_of_numpy_give_the_same_plain_float(schedule, arguments):
    kinds = {int: np.int64, float: np.float32, str: str}
    found = schedule(*(kinds[type(value)](value) for value in arguments))
    assert type(found) is float
    assert found == schedule(*arguments)  # in double precision, too
