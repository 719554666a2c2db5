"""A study's folder: proven writable, held by one process, its files replaced in one step."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from study import home
from study.errors import StudyError
from study.home import StudyHome, home_root, write_atomically

ROOT = Path(__file__).parents[2]
HOLD = """
import sys, time
from pathlib import Path
from study.home import StudyHome
with StudyHome(Path(sys.argv[1]), "tiny").locked():
    print("held", flush=True)
    time.sleep(60)
"""
TRY = """
import sys
from pathlib import Path
from study.errors import StudyError
from study.home import StudyHome
try:
    with StudyHome(Path(sys.argv[1]), "tiny").locked():
        print("held")
except StudyError as error:
    print(error)
"""


@pytest.fixture
def place(tmp_path: Path) -> StudyHome:
    made = StudyHome(tmp_path / "studies", "tiny")
    made.create()
    return made


def _hold(place: StudyHome) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, str(place.root)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def _try(place: StudyHome) -> str:
    command = [sys.executable, "-c", TRY, str(place.root)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=30).stdout.strip()


def test_a_second_process_is_refused(place: StudyHome) -> None:
    refusal = (
        f"the study 'tiny' is already running here (process {{}} on {socket.gethostname()}); wait for it, or stop it: "
        "python -m study.stop tiny"
    )
    with place.locked():
        assert _try(place) == refusal.format(os.getpid())
    assert _try(place) == "held"
    process = _hold(place)
    try:
        with pytest.raises(StudyError) as raised, place.locked():
            pass
        assert str(raised.value) == refusal.format(process.pid)
    finally:
        process.kill()
        process.communicate()


def test_the_lock_of_a_killed_process_is_free(place: StudyHome) -> None:
    process = _hold(place)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with place.locked():
        assert _try(place) != "held"


def test_studies_are_locked_one_by_one(place: StudyHome) -> None:
    other = StudyHome(place.root, "other")
    other.create()
    with place.locked(), other.locked():
        pass


def test_nothing_is_made_before_create(tmp_path: Path) -> None:
    place = StudyHome(tmp_path / "studies", "tiny")
    assert place.read_facts() is None
    assert list(tmp_path.iterdir()) == []
    place.create()
    place.create()
    assert [path.name for path in place.folder.iterdir()] == ["trials"]


def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    # Root may write anywhere, but nobody can make a folder below a file.
    file = tmp_path / "file"
    file.touch()
    place = StudyHome(file / "studies", "tiny")
    assert place.read_facts() is None  # so the refusal below is what the user gets to see
    with pytest.raises(StudyError) as raised:
        place.create()
    message = str(raised.value)
    assert message.startswith(f"the home folder {file}/studies cannot be written (Not a directory: ")
    assert message.endswith("choose another with --home or STUDY_HOME")


def test_facts(place: StudyHome) -> None:
    facts = {"spec": {"a": [1, 2.5, None]}, "id": "x"}
    place.write_facts(facts)
    assert place.read_facts() == facts
    place.facts.write_text("{torn")
    with pytest.raises(StudyError, match=r"study\.json cannot be read .*; restore it, or choose another name="):
        place.read_facts()
    place.facts.write_bytes(b"\xff\xfe")
    with pytest.raises(StudyError, match=r"study\.json cannot be read"):
        place.read_facts()


def test_a_failed_write_leaves_the_old_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "facts.json"
    write_atomically(path, "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(home.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "new and longer")
    assert path.read_text() == "old"
    monkeypatch.undo()
    write_atomically(path, "new")
    assert path.read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["facts.json"]


def test_where_home_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STUDY_HOME", raising=False)
    assert home_root(None) == tmp_path / "studies"
    monkeypatch.setenv("STUDY_HOME", "elsewhere")
    assert home_root(None) == tmp_path / "elsewhere"
    assert home_root("/given") == Path("/given")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert home_root("~/runs") == Path("/home/somebody/runs")


def test_tracking_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    place = StudyHome(tmp_path, "tiny")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert place.mlflow_uri == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    assert place.mlflow_uri == "http://server:5000"


def test_every_path_lies_in_the_studys_folder(tmp_path: Path) -> None:
    place = StudyHome(tmp_path, "tiny")
    for path in (place.ledger, place.facts, place.report, place.spool, place.ray, place.trial("lars_B64_r0_t0")):
        assert place.folder in path.parents
