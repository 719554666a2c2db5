"""What a hyperparameter can be at all."""

from __future__ import annotations

import math

import pytest

from optim.registry import OPTIMIZERS, SCHEDULE_KNOBS
from search_spaces import ARM_SPACES, Choice, Dimension, Float, Int, SpaceError, Value
from search_spaces.catalog import INITIALIZATIONS
from search_spaces.knobs import COMMON_KNOBS, KNOBS, check_knob, knobs_of


def test_the_table_holds_every_knob_of_optimizers_and_schedules() -> None:
    real = {knob for info in OPTIMIZERS.values() for knob in info.knobs}
    real |= {knob for knobs in SCHEDULE_KNOBS.values() for knob in knobs}
    assert set(KNOBS) == real | {"base_lr", *COMMON_KNOBS}


@pytest.mark.parametrize(
    ("knob", "legal", "illegal"),
    [
        ("base_lr", (1e-9, 1, 1e6), (0, -1, math.inf, math.nan, True, "1")),
        ("weight_decay", (0, 0.0, 1), (-1e-9, math.nan, False)),
        ("momentum", (0, 0.9, 0.999), (1, 1.0, -0.1)),
        ("nesterov", (True, False), (0, 1, "yes")),
        ("sample_norms", ("exact", "subset", "micro_batch"), ("all", "", True, 16)),
        ("norm_samples", (2, 16), (1, 0, 2.5, "16", True)),
        ("warmup_start", ("one", "zero"), ("two", 1)),
        ("gamma_min", (0, 0.001, "paper_literal"), ("paper", -0.1)),
        ("init", INITIALIZATIONS, ("xavier", 0)),
        ("batch_size", (1, 4096), (0, 1.5, 64.0, True)),
    ],
)
def test_values(knob: str, legal: tuple[Value, ...], illegal: tuple[Value, ...]) -> None:
    for value in legal:
        check_knob(knob, value)
    for value in illegal:
        with pytest.raises(SpaceError, match=rf"^{knob} takes .*, but got "):
            check_knob(knob, value)


@pytest.mark.parametrize(
    ("knob", "change", "message"),
    [
        (
            "momentum",
            Float(low=0.5, high=1.5),
            "momentum takes a number >= 0 and < 1, but got high=1.5",
        ),
        ("base_lr", Float(low=0, high=1), "base_lr takes a number > 0, but got low=0.0"),
        ("base_lr", Choice(values=(1.0, "big")), "base_lr takes a number > 0, but the choices hold 'big'"),
        (
            "batch_size",
            Float(low=1, high=8),
            "batch_size takes a whole number >= 1, but got low=1.0",
        ),
        ("nesterov", Int(low=0, high=1), "nesterov takes true or false, but got low=0"),
        (
            "gamma_min",
            Choice(values=("paper_literal", "x")),
            "gamma_min takes a number >= 0 or one of paper_literal, but the choices hold 'x'",
        ),
    ],
)
def test_ranges(knob: str, change: Dimension, message: str) -> None:
    with pytest.raises(SpaceError) as raised:
        check_knob(knob, change)
    assert str(raised.value) == message


def test_what_an_arm_takes() -> None:
    warmup = ARM_SPACES["lars_warmup"]
    taken = knobs_of({**warmup.dimensions, **warmup.fixed})
    assert {"base_lr", "warmup_epochs", "warmup_start", "init", "batch_size"} <= taken
    assert "decay_epochs" not in taken
    assert "warmup_start" not in knobs_of(ARM_SPACES["lars"].dimensions)
    for arm in ("clars", "clars_warmup"):
        assert {"sample_norms", "norm_samples"} <= knobs_of({**ARM_SPACES[arm].dimensions, **ARM_SPACES[arm].fixed})
    assert {"sample_norms", "norm_samples"}.isdisjoint(taken)
