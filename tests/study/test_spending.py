"""What is spent, by cell and over sessions, and when it is the budget."""

from __future__ import annotations

import pytest

from study.sections import BudgetSpec
from study.sections.budget import seconds_of
from study.spending import Spending, total_device_seconds


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2h", 7200), ("90m", 5400), ("1h30m", 5400), ("45s", 45), ("1d12h", 129_600), ("0.5h", 1800)],
)
def test_durations(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "2 hours", "-1h", "0s", "1m2h"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="reads like 2h, 90m or 1h30m"):
        seconds_of(text)


def test_device_seconds_by_cell(clock: Clock) -> None:
    spending = Spending(BudgetSpec(), 4.0, clock=clock)
    spending.started("a", "lars/B64")
    clock.now += 10
    spending.started("b", "sgd/B64")
    clock.now += 5
    spending.ended("a")
    clock.now += 1
    assert spending.device_seconds() == {"lars/B64": 60.0, "sgd/B64": 24.0}  # b still runs
    assert spending.spent() is None
    sessions = [{"device_seconds": {"lars/B64": 1.5}}, {}, {"device_seconds": spending.device_seconds()}]
    assert total_device_seconds(sessions) == {"lars/B64": 61.5, "sgd/B64": 24.0}


def test_device_hours_are_counted_over_sessions_and_while_trials_run(clock: Clock) -> None:
    earlier = [{"wall_seconds": 50.0, "device_seconds": {"lars/B64": 3000.0}}]
    spending = Spending(BudgetSpec(device_hours=1.0), 2.0, earlier, clock)
    spending.started("a", "lars/B64")
    clock.now += 299
    assert spending.spent() is None
    clock.now += 1
    assert spending.spent() == "budget.device_hours=1"
    spending.ended("a")
    assert spending.spent() == "budget.device_hours=1"


def test_wall_time_is_counted_over_sessions(clock: Clock) -> None:
    earlier = [{"wall_seconds": 50.0}, {"wall_seconds": 9.0}]
    spending = Spending(BudgetSpec(wall="1m"), 1.0, earlier, clock)
    assert spending.spent() is None
    clock.now += 1
    assert spending.spent() == "budget.wall=1m"
    assert Spending(BudgetSpec(wall="1h"), 1.0, earlier, clock).spent() is None
