import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from optim import CLARS, TVLARS, Arm, PerSampleNorms, PhiKnobs, build_arm, tvlars_matching, warmup_cosine


@settings(deadline=None)
@given(st.integers(0, 5000), st.integers(1, 10**5), st.floats(1e-6, 0.9))
def test_matching_phi_meets_the_schedule_at_its_ends(warmup, rest, floor):
    total = warmup + rest
    knobs = tvlars_matching(warmup, total, floor)
    for step in (warmup, total):
        assert knobs.phi(step) == pytest.approx(warmup_cosine(step, warmup, total, floor), rel=1e-9)
    if rest % 2 == 0:
        middle = (warmup + total) // 2
        assert knobs.phi(middle) == pytest.approx(warmup_cosine(middle, warmup, total, floor), rel=1e-9)
    for step in {0, warmup // 2, max(warmup - 1, 0)}:
        assert step >= warmup or 1 <= knobs.phi(step) <= (1 + floor / 2) * (1 + 1e-12)


def test_matching_knobs_are_those_of_the_optimizer():
    knobs = tvlars_matching(2, 12, floor=0.01)
    weight = torch.nn.Parameter(torch.full((2, 2), 3.0, dtype=torch.float64))
    optimizer = TVLARS([weight], lr=0.5, trust_coefficient=0.1, momentum=0.0, **dataclasses.asdict(knobs))
    for step in range(13):
        before = weight.detach().clone()
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        moved = (weight.detach() - before).norm() / before.norm()
        assert float(moved) == pytest.approx(0.5 * 0.1 * knobs.phi(step), rel=1e-9)
    assert float(moved) == pytest.approx(0.5 * 0.1 * 0.01, rel=1e-9)


def test_knobs_in_epochs_and_back():
    knobs = tvlars_matching(20, 100)
    in_epochs = knobs.to_epochs(steps_per_epoch=5)
    assert in_epochs["delay_epochs"] == 12.0
    back = dataclasses.astuple(PhiKnobs.from_epochs(in_epochs, 5, batch_size_ratio=1.0))
    assert back == pytest.approx(dataclasses.astuple(knobs), rel=1e-14)
    with pytest.raises(ValueError, match=r"lambda_=0\.0"):
        PhiKnobs(0.0, 1.0, 1.0, 0.0).to_epochs(5)


def test_knobs_of_numbers_of_numpy_are_plain():
    for knobs in (
        tvlars_matching(np.int64(2), np.int64(12), np.float32(0.25)),
        PhiKnobs.from_epochs({"decay_epochs": np.float64(2.0), "delay_epochs": np.int64(3)}, np.int64(5), 1.0),
    ):
        assert {type(value) for value in dataclasses.astuple(knobs)} == {float}


@pytest.mark.parametrize(
    ("warmup", "total", "floor"), [(-1, 5, 0.1), (5, 5, 0.1), (0, 0, 0.1), (0, 5, 0.0), (0, 5, 1.0)]
)
def test_a_schedule_that_phi_cannot_match_is_refused(warmup, total, floor):
    with pytest.raises(
        ValueError, match=rf"must hold, but got \((warmup_steps={warmup}, total_steps={total}|floor={floor})"
    ):
        tvlars_matching(warmup, total, floor)


def test_closing_an_arm_ends_the_recording():
    model = torch.nn.Linear(3, 2)
    norms = PerSampleNorms(model)
    optimizer = CLARS(model.parameters(), 0.1, sample_norms=norms)
    arm = Arm(optimizer, 0.1, lambda step: 1.0, None, False, sample_norms=norms)
    model(torch.ones(4, 3)).mean().backward()
    optimizer.step()
    arm.close()
    arm.close()  # and once more does no harm
    optimizer.zero_grad()
    model(torch.ones(4, 3)).mean().backward()
    with pytest.raises(RuntimeError, match="there was none"):
        optimizer.step()
    Arm(torch.optim.SGD(model.parameters(), 0.1), 0.1, lambda step: 1.0, None, False).close()


@pytest.mark.parametrize("kind", ["number", "tensor"])
def test_prepare_step_sets_numbers_and_fills_tensors(kind):
    lr = torch.tensor(2.0) if kind == "tensor" else 2.0
    optimizer = TVLARS([torch.nn.Parameter(torch.ones(2, 2))], lr=lr, lambda_=0.1, delay_steps=5)
    optimizer.param_groups[0]["initial_lr"] = 2.0
    arm = Arm(optimizer, 2.0, lambda step: 1 / (step + 1), None, False)
    arm.prepare_step(3)
    assert float(optimizer.param_groups[0]["lr"]) == 0.5
    assert kind == "number" or optimizer.param_groups[0]["lr"] is lr


@pytest.mark.parametrize("name", ["tvlars", "lars_sigmoid"])
def test_a_step_that_is_left_out_takes_its_time(name):
    weight = torch.nn.Parameter(torch.full((2, 2), 3.0, dtype=torch.float64))
    knobs = {"decay_epochs": 1.0, "delay_epochs": 0.5, "momentum": 0.0, "trust_coefficient": 0.1}
    arm = build_arm(name, [("weight", weight)], lr=0.5, steps_per_epoch=4, total_steps=8, hyperparameters=knobs)
    for step in range(8):
        before = weight.detach().clone()
        weight.grad = torch.ones_like(weight)
        arm.prepare_step(step)
        if step in (0, 1, 5):  # as a gradient scaler does where one overflows
            continue
        arm.optimizer.step()
        moved = (weight.detach() - before).norm() / before.norm()
        assert float(moved) == pytest.approx(0.1 * arm.lr_effective(step), rel=1e-9)
