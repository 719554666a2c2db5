"""The named spaces: fair between arms, legal, documented, and taken by the real optimizers."""

from __future__ import annotations

import pytest
import torch

from optim.registry import ARMS, build_arm
from search_spaces import ARM_SPACES, SLOW_START_KNOBS, Choice, Float, Value
from search_spaces.knobs import check_knob


def _middle(arm: str, epochs: int = 20) -> dict[str, Value]:
    """A point of the arm's space, with what it holds fixed."""
    space = ARM_SPACES[arm].at_length(epochs)
    point: dict[str, Value] = dict(space.fixed)
    for name, dimension in space.dimensions.items():
        point[name] = dimension.values[0] if isinstance(dimension, Choice) else (dimension.low + dimension.high) / 2
    return point


@pytest.mark.parametrize("arm", ARM_SPACES)
def test_every_dimension_says_why_and_whence(arm: str) -> None:
    for name, dimension in ARM_SPACES[arm].dimensions.items():
        assert dimension.why, name
        assert dimension.source, name


@pytest.mark.parametrize("arm", ARM_SPACES)
def test_every_range_is_legal(arm: str) -> None:
    space = ARM_SPACES[arm].at_length(20)
    for name, change in {**space.dimensions, **space.fixed}.items():
        check_knob(name, change)


@pytest.mark.parametrize("arm", ARM_SPACES)
def test_the_real_optimizer_takes_every_knob(arm: str) -> None:
    knobs = _middle(arm)
    lr = float(knobs.pop("base_lr"))
    model = torch.nn.Linear(4, 3)
    built = build_arm(
        arm, model.named_parameters(), lr=lr, steps_per_epoch=2, total_steps=40, model=model, hyperparameters=knobs
    )
    before = model.weight.detach().clone()
    model(torch.ones(2, 4)).square().sum().backward()
    built.prepare_step(5)
    built.optimizer.step()
    assert not torch.equal(model.weight, before)


@pytest.mark.parametrize("arm", ARM_SPACES)
def test_schedule_knobs_stand_where_the_schedule_needs_them(arm: str) -> None:
    phi = ARMS[arm].schedule in ("sigmoid", "constant")  # tvlars carries phi itself, at constant lr
    warmup = ARMS[arm].schedule == "warmup_cosine"
    names = set(ARM_SPACES[arm].dimensions)
    assert ("warmup_epochs" in names) == warmup
    assert ({"decay_epochs", "delay_epochs"} <= names) == phi


def _family(arm: str) -> str:
    return "lars" if arm == "tvlars" else ARMS[arm].optimizer


@pytest.mark.parametrize("knob", ["base_lr", "weight_decay", *SLOW_START_KNOBS, "decay_epochs"])
def test_shared_knobs_have_one_range_in_a_family(knob: str) -> None:
    ranges: dict[str, set[object]] = {}
    for arm, space in ARM_SPACES.items():
        if knob in space.dimensions:
            ranges.setdefault(_family(arm), set()).add(space.dimensions[knob])
    assert ranges
    assert all(len(found) == 1 for found in ranges.values()), ranges


def test_families_hold_the_same_things_still() -> None:
    for arm, space in ARM_SPACES.items():
        plain = ARM_SPACES[_family(arm)].fixed
        assert {name: space.fixed[name] for name in plain} == plain, arm


def test_clars_differs_from_lars_in_its_trust_coefficient_and_norms_alone() -> None:
    for schedule in ("", "_warmup"):
        clars, lars = ARM_SPACES[f"clars{schedule}"], ARM_SPACES[f"lars{schedule}"]
        assert list(clars.dimensions) == list(lars.dimensions)
        for name, dimension in lars.dimensions.items():
            assert clars.dimensions[name].describe() == dimension.describe(), name
        changed = {name for name, value in clars.fixed.items() if lars.fixed.get(name) != value}
        assert changed == {"trust_coefficient", "sample_norms"}


def test_slow_starts_have_one_upper_end() -> None:
    ends = {
        dimension.high
        for space in ARM_SPACES.values()
        for name, dimension in space.dimensions.items()
        if name in SLOW_START_KNOBS and isinstance(dimension, Float) and dimension.of_length
    }
    assert len(ends) == 1  # else the rungs would favour one kind of slow start
