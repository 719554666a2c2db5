"""More trials at a time than cores, on a real Ray: each place keeps its process from the first trial to the last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from study.records import COMPLETE
from study.sweep.adapters import EventWire
from study.sweep.engine import Cluster, cluster

AT_ONCE = 8


@pytest.fixture(scope="module")
def machine() -> Iterator[Cluster]:
    with cluster(None, cpus=AT_ONCE) as found:
        yield found


def test_trials_that_end_together_leave_every_process_in_use(
    small: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    trials_of: Counter[int] = Counter()
    seen = EventWire.on_trial_complete

    def spy(self: Any, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        trials_of[trial.last_result["pid"]] += 1
        seen(self, iteration, trials, trial, **info)

    monkeypatch.setattr(EventWire, "on_trial_complete", spy)
    records = small("train.epochs=1", "search.trials=47", "search.method=random").run()
    assert [record.state for record in records] == [COMPLETE] * 48
    assert len(trials_of) == AT_ONCE, trials_of
    assert sum(trials_of.values()) == 48
