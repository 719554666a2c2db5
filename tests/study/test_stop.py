"""`study.stop`: what it asks for, what it refuses, and a driver that it ends."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from study.control import Control
from study.home import StudyHome
from study.records import COMPLETE
from study.stop import main

BeginHome = Callable[..., StudyHome]
ROOT = Path(__file__).parents[2]
DRIVE = """
import sys
from pathlib import Path
from study.home import StudyHome
from study.interrupts import check_stop, handled, patient, stop_requested
import time
with StudyHome(Path(sys.argv[1]), "tiny").locked(), handled(), patient():
    print("driving", flush=True)
    while not stop_requested():
        time.sleep(0.01)
    print("stopped in order", flush=True)
"""


def stop(place: StudyHome, *arguments: str) -> int:
    return main(["tiny", "--home", str(place.root), *arguments])


def test_a_driver_is_stopped_in_order(begin_home: BeginHome, capsys: pytest.CaptureFixture[str]) -> None:
    place = begin_home([COMPLETE], running=1)
    command = [sys.executable, "-c", DRIVE, str(place.root)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "driving\n"
    assert stop(place) == 0
    out, err = process.communicate(timeout=20)
    assert (out, process.returncode) == ("stopped in order\n", 0)
    assert "SIGINT: stopping" in err
    said = capsys.readouterr().out
    assert said.startswith(f"stopped tiny (process {process.pid}); what was recorded is kept in {place.folder}\n")
    assert "--resume" in said


def test_a_trial_is_asked_to_end(begin_home: BeginHome, capsys: pytest.CaptureFixture[str]) -> None:
    place = begin_home([COMPLETE], running=2)
    with place.locked():
        assert stop(place, "--trial", "2") == 0
        assert stop(place, "--trial", "sgd/B64/r0/t0") == 0
    assert Control(place.control).requests().trials == {"lars/B64/r1/t0", "sgd/B64/r0/t0"}
    assert capsys.readouterr().out.startswith("trial 2 (lars/B64/r1/t0) ends with its next report")


def test_a_cell_is_stopped_and_let_go_on(begin_home: BeginHome, capsys: pytest.CaptureFixture[str]) -> None:
    place = begin_home([COMPLETE])
    assert stop(place, "--cell", "sgd/B64") == 0
    assert Control(place.control).requests().cells == {"sgd/B64"}
    assert (
        "starts no further trials, when the study is resumed; claims on it are inconclusive" in capsys.readouterr().out
    )
    with place.locked():
        assert stop(place, "--cell", "sgd/B64", "--undo") == 0
    assert Control(place.control).requests().cells == frozenset()
    assert capsys.readouterr().out == "sgd/B64 goes on, from now on\n"


@pytest.mark.parametrize(
    ("driven", "arguments", "words"),
    [
        (False, (), "nothing drives the study 'tiny', so nothing is to be stopped"),
        (False, ("--trial", "1"), "nothing drives the study 'tiny'"),
        (True, ("--trial", "0"), "trial 0 (lars/B64/r0/t0) has ended already: complete after 10 epochs"),
        (True, ("--trial", "77"), "has no trial '77'"),
        (True, ("--cell", "sgd/B46"), "has no cell 'sgd/B46'; did you mean 'sgd/B64'?"),
        (True, ("--cell", "sgd/B64", "--undo"), "the cell sgd/B64 was not stopped"),
        (True, ("--undo",), "--undo goes with --cell"),
        (True, ("--cell", "sgd/B64", "--trial", "1"), "not allowed with argument"),
    ],
)
def test_what_cannot_be_stopped(
    begin_home: BeginHome, capsys: pytest.CaptureFixture[str], driven: bool, arguments: tuple[str, ...], words: str
) -> None:
    place = begin_home([COMPLETE], running=1)
    if driven:
        with place.locked():
            assert stop(place, *arguments) == 2
    else:
        assert stop(place, *arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert words in err
    assert err.count("\n") == 1
    assert not place.control.exists()


def test_a_confirm_run_is_never_cut(begin_home: BeginHome, capsys: pytest.CaptureFixture[str]) -> None:
    place = begin_home([COMPLETE], running=1, arms=["sgd"], search={"trials": 1, "repeats": 1, "method": "random"})
    with place.locked():
        assert stop(place, "--trial", "1") == 2
    assert "is a confirm run, and those train to the end or not at all" in capsys.readouterr().err
