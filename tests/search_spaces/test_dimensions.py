"""Dimensions and spaces: what is refused, what a range contains, where a value lies in it."""

from __future__ import annotations

import math
from typing import Any

import pytest

from search_spaces import Choice, Dimension, Float, Int, Space, SpaceError, Value


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (Float, {"low": 3, "high": 1}, "low <= high must hold, but got low=3, high=1"),
        (Float, {"low": 0, "high": 1, "log": True}, "a log scale needs low > 0, but got low=0"),
        (Float, {"low": -1, "high": 1, "log": True}, "a log scale needs low > 0, but got low=-1"),
        (Float, {"low": True, "high": 2}, "low must be a finite number, but got low=True"),
        (Float, {"low": "1", "high": 2}, "low must be a finite number, but got low='1'"),
        (Float, {"low": 0, "high": math.inf}, "high must be a finite number, but got high=inf"),
        (Float, {"low": math.nan, "high": 1}, "low must be a finite number, but got low=nan"),
        (Int, {"low": 1.0, "high": 2}, "low must be a whole number, but got low=1.0"),
        (Int, {"low": 1, "high": False}, "high must be a whole number, but got high=False"),
        (Int, {"low": 2, "high": 1}, "low <= high must hold, but got low=2, high=1"),
        (Int, {"low": 0, "high": 8, "log": True}, "a log scale needs low > 0, but got low=0"),
        (Choice, {"values": ()}, "a choice needs at least one value, but got none"),
        (Choice, {"values": (1, 2, 1)}, r"the values of a choice must differ, but got \[1, 2, 1\]"),
        (Choice, {"values": (None,)}, "a choice holds numbers, words or true/false, but got None"),
    ],
)
def test_illegal_dimensions(make: type, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=f"^{message}$"):
        make(**options)


@pytest.mark.parametrize(
    ("dimension", "inside", "outside"),
    [
        (Float(low=1, high=3), (1, 1.0, 2.5, 3), (0.999, 3.001, math.nan, True, "2")),
        (Float(low=2, high=2), (2, 2.0), (1.999, 2.001)),
        (Int(low=1, high=3), (1, 2, 3), (0, 4, 2.0, True, "2")),
        (Choice(values=("a", 1, 2.5, False)), ("a", 1, 2.5, False), ("b", 3, 2.4)),
    ],
)
def test_contains(dimension: Dimension, inside: tuple[Value, ...], outside: tuple[Value, ...]) -> None:
    assert all(dimension.contains(value) for value in inside)
    assert not any(dimension.contains(value) for value in outside)


def test_position_is_on_the_searched_scale() -> None:
    assert Float(low=2, high=4).position(2.5) == pytest.approx(0.25)
    assert Int(low=0, high=8).position(2) == pytest.approx(0.25)
    log = Float(low=1e-4, high=1, log=True)
    assert [log.position(10.0**power) for power in (-4, -3, -2, -1, 0)] == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert Int(low=1, high=256, log=True).position(16) == pytest.approx(0.5)
    assert Float(low=3, high=3).position(3) is None  # a point has no ends
    with pytest.raises(SpaceError, match="only a number has a place in a range, but got 'x'"):
        log.position("x")


def test_listed_numbers_have_a_place_by_rank_and_words_have_none() -> None:
    rates = Choice(values=(3.0, 0.5, 1, 25.0, 6.0))  # as a study file may list them
    assert [rates.position(value) for value in (0.5, 1, 3.0, 6.0, 25.0)] == [0, 0.25, 0.5, 0.75, 1]
    for unordered in (("raw", "capped"), (False, True), (1, "raw"), (7.0,)):
        assert Choice(values=unordered).position(unordered[0]) is None
    with pytest.raises(SpaceError, match="only a listed value has a place, but got 2"):
        rates.position(2)


def test_bounds_become_plain_floats() -> None:
    assert Float(low=1, high=2) == Float(low=1.0, high=2.0)
    assert type(Float(low=1, high=2).low) is float


def test_fractions_of_the_length_become_epochs_once() -> None:
    fraction = Float(low=0.01, high=0.3, of_length=True, why="w", source="s")
    epochs = fraction.at_length(20)
    assert epochs == Float(low=0.2, high=6.0, why="w", source="s")
    assert epochs.at_length(20) == epochs
    space = Space({"warmup_epochs": fraction, "batch_size": Int(low=1, high=2)}, {"momentum": 0.9})
    assert space.at_length(20).dimensions == {"warmup_epochs": epochs, "batch_size": Int(low=1, high=2)}
    assert space.at_length(20).fixed == {"momentum": 0.9}


@pytest.mark.parametrize(
    ("dimension", "words"),
    [
        (Float(low=0.1, high=30, log=True), "0.1 to 30, log"),
        (Float(low=0.01, high=0.3, of_length=True), "0.01 to 0.3 of the training length"),
        (Int(low=1, high=64, log=True), "1 to 64, whole, log"),
        (Choice(values=("default", 3, True)), "one of default, 3, True"),
    ],
)
def test_describe(dimension: Dimension, words: str) -> None:
    assert dimension.describe() == words


def test_a_hyperparameter_is_searched_or_fixed() -> None:
    with pytest.raises(SpaceError, match="either searched or fixed, but both hold momentum"):
        Space({"momentum": Float(low=0, high=0.9)}, {"momentum": 0.9})


def test_changes_move_names_between_searched_and_fixed() -> None:
    space = Space({"base_lr": Float(low=1, high=2), "weight_decay": Float(low=0, high=1)}, {"momentum": 0.9})
    changed = space.changed({"base_lr": 1.5, "momentum": Choice(values=(0.0, 0.9)), "init": "xavier_normal"})
    assert changed.dimensions == {"weight_decay": Float(low=0, high=1), "momentum": Choice(values=(0.0, 0.9))}
    assert changed.fixed == {"base_lr": 1.5, "init": "xavier_normal"}
    assert space.fixed == {"momentum": 0.9}  # the named space itself stays as it is
