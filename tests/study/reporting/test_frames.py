from dataclasses import replace

import numpy as np
import pytest

from study.analysis.summary import summarize
from study.records import RUNNING, SEARCH
from study.reporting.frames import accuracy_frame, curve_frame, knob_frame


def test_accuracy_frame_is_one_row_per_cell_and_repeat(make_record) -> None:
    block = summarize(make_record()).blocks[0]
    frame = accuracy_frame(block)
    assert len(frame) == 15
    assert list(dict.fromkeys(frame["arm"])) == [cell.cell.arm for cell in block.cells]
    first = block.cells[0]
    own = frame[frame["arm"] == first.cell.arm]
    assert own["points"].tolist() == pytest.approx([score.points for score in first.scores])
    assert first.interval is not None
    assert own["low"].unique().tolist() == [first.interval.low]


def test_accuracy_frame_without_scores(make_record) -> None:
    frame = accuracy_frame(summarize(make_record(empty=True)).blocks[0])
    assert len(frame) == 5
    assert frame[["points", "mean", "low", "high"]].isna().to_numpy().all()


def test_curve_frame_holds_every_report_of_its_block(make_record) -> None:
    record = make_record(batch_size=["full", 256])
    for block in record.plan.blocks:
        frame = curve_frame(record, block)
        own = [t for t in record.trials if t.block == block.label]
        assert len(frame) == sum(len(t.curve) for t in own)
        some = own[7]
        curve = frame[frame["number"] == some.number].set_index("epoch")["metric"]
        assert curve.to_dict() == dict(some.curve)


def test_knob_frame_holds_the_ended_search_trials(make_record) -> None:
    record = make_record(arms=("lars", "tvlars"))
    trials = (replace(record.trials[0], state=RUNNING), *record.trials[1:])
    cell = record.plan.cells[0]
    frame = knob_frame(replace(record, trials=trials), cell, "base_lr")
    own = [t for t in trials if t.cell == cell.name and t.phase == SEARCH and t.state != RUNNING]
    assert frame["number"].tolist() == [t.number for t in own]
    assert frame["setting"].tolist() == [t.params["base_lr"] for t in own]
    failed = knob_frame(record, record.plan.cells[1], "base_lr")
    assert np.isnan(failed[failed["state"] == "failed"]["value"]).all()
