"""The rungs of one search: ASHA's rule against Ray's own, the median rule, and what a kill leaves of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from study.rungs import RungLog, Rungs, Verdict


class _Entry:
    def __init__(self, trial_id: str) -> None:
        self.trial_id = trial_id


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_asha_decides_as_rays_own_does(factor: int) -> None:
    rng = np.random.default_rng(factor)
    rungs = Rungs((1, factor, factor**2), "asha", factor)
    theirs = ASHAScheduler(
        time_attr="epoch",
        metric="v",
        mode="max",
        grace_period=1,
        max_t=factor**3,
        reduction_factor=factor,
        stop_last_trials=False,
    )
    stopped = 0
    for index in range(60):
        entry = _Entry(f"t{index}")
        theirs.on_trial_add(None, entry)
        for epoch in (1, factor, factor**2):
            value = float(rng.normal()) if index % 7 else 0.5  # equals among them
            decision = theirs.on_trial_result(None, entry, {"epoch": epoch, "v": value})
            assert rungs.survives(entry.trial_id, epoch, value) == (decision != TrialScheduler.STOP)
            if decision == TrialScheduler.STOP:
                stopped += 1
                break
    assert 20 < stopped < 60


def test_the_median_of_three_others_or_more() -> None:
    rungs = Rungs((2, 4), "median", 2)
    assert [rungs.survives(f"t{i}", 2, v) for i, v in enumerate((0.5, 0.1, 0.3))] == [True, True, True]
    assert not rungs.survives("t3", 2, 0.29)
    assert rungs.survives("t4", 2, 0.3)  # others: 0.1, 0.29, 0.3, 0.5
    assert rungs.survives("t4", 4, 0.0)  # nobody else is there yet
    assert rungs.survives("t4", 3, -9.0)  # between rungs
    assert set(rungs.recorded()[2]) == {"t0", "t1", "t2", "t3", "t4"}


@pytest.mark.parametrize("method", ["asha", "median"])
def test_asked_again_the_answer_is_the_same(method: str) -> None:
    rungs = Rungs((1,), method, 3)
    told = {f"t{i}": rungs.survives(f"t{i}", 1, i % 5 / 10) for i in range(20)}
    assert set(told.values()) == {True, False}
    assert {key: rungs.survives(key, 1, 99.0) for key in told} == told
    assert rungs.recorded()[1]["t7"] == 0.2


def test_a_value_without_a_known_verdict_is_judged_against_the_others() -> None:
    rungs = Rungs((1, 3), "asha", 3)
    for index in range(6):
        rungs.restore(f"t{index}", 1, 0.8, True)
    rungs.restore("cut", 1, 0.2, None)
    assert not rungs.decided("cut", 1)
    assert not rungs.survives("cut", 1, 0.2)
    assert rungs.decided("cut", 1)
    other = Rungs((1,), "asha", 3)
    for key, value in {"a": 0.5, "b": 0.8, "cut": 0.72}.items():
        other.restore(key, 1, value, True if key != "cut" else None)
    assert other.survives("cut", 1, 0.72)  # above the others' 0.7; with its own value among them the cut-off were 0.75
    assert rungs.unreached(2) == (3,)
    assert rungs.unreached(1) == (1, 3)


def test_the_log_survives_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "rungs.jsonl"
    verdicts = [Verdict("a", 1, 0.5, True), Verdict("b", 1, 0.1, False), Verdict("c", 1, 0.1, False, diverged=True)]
    assert RungLog(path).read() == []
    for verdict in verdicts[:2]:
        RungLog(path).add(verdict)
    with path.open("ab") as file:
        file.write(b'{"trial": "x", "epo')
    log = RungLog(path)
    assert log.read() == verdicts[:2]
    log.add(verdicts[2])
    log.add(verdicts[0])
    assert RungLog(path).read() == [*verdicts, verdicts[0]]
