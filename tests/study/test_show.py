"""`study.show` over homes in every state that a driver can leave."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from study.home import StudyHome
from study.records import COMPLETE, DIVERGED, FAILED, PRUNED
from study.show import main

BeginHome = Callable[..., StudyHome]
Lines = list[str]


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Callable[..., Lines]:
    """What the command prints, in lines; it must succeed and keep to 100 columns."""

    def show(place: StudyHome, *arguments: str) -> Lines:
        code = main(["tiny", "--home", str(place.root), *arguments])
        out, err = capsys.readouterr()
        assert (code, err) == (0, "")
        lines = out.splitlines()
        assert max(map(len, lines)) <= 100 + len(str(place.root))
        return lines

    return show


def test_a_running_study(begin_home: BeginHome, shown: Callable[..., Lines]) -> None:
    place = begin_home([COMPLETE, PRUNED, DIVERGED, FAILED], running=2)
    with place.locked():
        lines = shown(place)
    assert lines[0].startswith(
        f"tiny: running (process {os.getpid()}), begun 2025-03-04T05:06:07+00:00, last activity 0:0"
    )
    assert lines[1] == "  3 of 16 trials done, 2 running, 1 stopped early, 1 diverged, 1 failed"
    # 4 ended trials of 10 epochs (make_ending) and 2 s; 2 running ones of 3 epochs; what failed takes no other's place.
    assert lines[2].startswith("  46 of at most 170 epochs, 0.003 device-hours of at most about 0.009, about 0:")
    lars, sgd = (line.split() for line in lines[5:7])
    assert lars[:4] == ["lars/B64", "searching", "2/6", "0/2"]
    assert lars[4:9] == ["1", "-", "1", "-", "0.5000"]  # running, stopped, diverged, failed, best
    assert sgd[:4] == ["sgd/B64", "searching", "1/6", "0/2"]
    assert lines[7:] == ["why trial 3 failed: python -m study.show tiny --trial 3"]


def test_a_killed_study(begin_home: BeginHome, shown: Callable[..., Lines]) -> None:
    lines = shown(begin_home([COMPLETE], running=1))
    assert lines[0].startswith("tiny: stopped, begun")
    assert lines[1] == "  1 of 16 trials done, 1 cut off"
    assert "left" not in lines[2]
    assert [line.split()[1] for line in lines[5:7]] == ["waiting", "waiting"]
    assert lines[7] == "go on with it: the command that began it, with --resume"


def test_a_finished_study(begin_home: BeginHome, shown: Callable[..., Lines]) -> None:
    place = begin_home()
    place.report.touch()
    lines = shown(place)
    assert lines[0].startswith("tiny: finished")
    assert lines[1] == "  16 of 16 trials done"
    assert [line.split()[1:4] for line in lines[5:7]] == [["done", "6/6", "2/2"]] * 2
    assert lines[7:] == [f"report    {place.report}"]


def test_just_begun(begin_home: BeginHome, shown: Callable[..., Lines]) -> None:
    """Before any trial; and before even the ledger, which looking must not make."""
    place = begin_home([])
    assert shown(place)[1] == "  0 of 16 trials done"
    place.ledger.unlink(missing_ok=True)
    lines = shown(place)
    assert lines[1:3] == ["  0 of 16 trials done", "  0 of at most 160 epochs, 0.000 device-hours"]
    assert not place.ledger.exists()


def test_a_line_that_is_still_being_written(begin_home: BeginHome, shown: Callable[..., Lines]) -> None:
    place = begin_home([COMPLETE], running=1)
    whole = place.ledger.read_bytes()
    place.ledger.write_bytes(whole + b'{"op_code": 7, "trial_id": 1, "st')
    assert shown(place)[1] == "  1 of 16 trials done, 1 cut off"
    assert place.ledger.read_bytes().endswith(b'"st')  # nothing was mended
    reports = place.trial("lars_B64_r0_t0") / "reports.jsonl"
    reports.write_text(reports.read_text() + '{"epoch": 11, "val/acc')
    assert any("val/accuracy" in line and "0.05 to 0.5" in line for line in shown(place, "--trial", "0"))


def test_a_stopped_cell(begin_home: BeginHome, shown: Callable[..., Lines]) -> None:
    from study.control import Control

    place = begin_home([COMPLETE, COMPLETE])
    Control(place.control).stop_cell("sgd/B64")
    lines = shown(place)
    assert [line.split()[1] for line in lines[5:7]] == ["waiting", "stopped"]
    assert "stopped by the user: sgd/B64" in lines


def test_a_trial(begin_home: BeginHome, shown: Callable[..., Lines]) -> None:
    place = begin_home([COMPLETE, FAILED, PRUNED], running=1)
    text = "\n".join(shown(place, "--trial", "lars/B64/r0/t0"))
    record_lines = text.splitlines()
    assert record_lines[0] == "tiny, trial 0: lars/B64/r0/t0 (search, repeat 0)"
    assert record_lines[1] == "  state     complete after 10 of 10 epochs in 0:02"
    assert "val/accuracy 0.5 at the last epoch, place 1 of 1 complete ones" in text
    assert "for weights and order" in text
    assert "base_lr" in text
    assert "curve     val/accuracy ▁▁▂▃▄▅▆▇██ 0.05 to 0.5" in text
    assert "train/loss   █▄▃▂▁▁▁▁▁▁ 1 to 0.1" in text
    assert "metrics   epoch 10, val/accuracy 0.5, train/loss 0.1" in text
    assert str(place.trial("lars_B64_r0_t0")) in text
    assert "traceback" not in text


def test_the_traceback_of_a_failed_trial(begin_home: BeginHome, shown: Callable[..., Lines]) -> None:
    place = begin_home([COMPLETE, FAILED])
    lines = shown(place, "--trial", "1")
    assert lines[1].startswith("  state     failed after ")
    assert lines[2] == "  reason    RuntimeError: out of memory"
    assert lines[-3:] == ["traceback", "  2025-03-04 05:06:07 failed", "  RuntimeError: out of memory"]


@pytest.mark.parametrize(("driven", "state"), [(True, "running"), (False, "cut off")])
def test_a_trial_that_has_not_ended(
    begin_home: BeginHome, shown: Callable[..., Lines], driven: bool, state: str
) -> None:
    place = begin_home([], running=1)
    checkpoints = place.trial("lars_B64_r0_t0") / "checkpoints"
    checkpoints.mkdir()
    (checkpoints / "epoch-000003-aaaa.pt").write_bytes(b"x" * 2048)
    if driven:
        with place.locked():
            lines = shown(place, "--trial", "0")
    else:
        lines = shown(place, "--trial", "0")
    assert lines[1] == f"  state     {state} after 3 of 10 epochs"
    assert lines[-1].endswith("checkpoints: 1, the newest epoch-000003-aaaa.pt, 2.0 KiB")


def test_watch_ends_with_the_driver(
    begin_home: BeginHome, shown: Callable[..., Lines], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = begin_home([COMPLETE], running=1)
    held = place.locked()
    held.__enter__()
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            held.__exit__(None, None, None)

    monkeypatch.setattr(time, "sleep", wait)
    lines = shown(place, "--watch", "7")
    assert waits == [7, 7]
    assert [line.split(",")[0].split(" (")[0] for line in lines if line.startswith("tiny:")] == [
        "tiny: running",
        "tiny: running",
        "tiny: stopped",
    ]


def test_an_odd_number_of_seconds(begin_home: BeginHome, capsys: pytest.CaptureFixture[str]) -> None:
    place = begin_home([])
    for given in ("soon", "nan", "0"):
        assert main(["tiny", "--home", str(place.root), "--watch", given]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: argument --watch: must be seconds from 0.1 to 86400, but got '{given}'")


def test_all_studies_of_a_home(begin_home: BeginHome, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = begin_home()
    place.write_facts({**(place.read_facts() or {}), "reported": True})
    begin_home([], name="other")
    (tmp_path / "studies" / "other" / "study.json").write_text("{")
    third = begin_home([COMPLETE], name="third")
    with third.locked():
        assert main(["--home", str(place.root)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [
        ["other", "unreadable"],
        ["third", "running"],
        ["tiny", "finished"],
    ]
