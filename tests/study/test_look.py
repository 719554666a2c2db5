"""Finding a study that was begun, and reading it from Python."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from study.errors import StudyError
from study.home import StudyHome
from study.look import begun, find, find_trial, job_of, open_study
from study.records import COMPLETE, FAILED, RUNNING

BeginHome = Callable[..., StudyHome]


def test_by_name_file_and_folder(begin_home: BeginHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = begin_home([])
    study_file = tmp_path / "mine.yaml"
    study_file.write_text("name: tiny\nquestion: which?\narms: [lars, sgd]\n")
    monkeypatch.chdir(tmp_path)
    assert find("tiny", "studies") == place
    assert find("mine.yaml", None) == place
    assert find(str(place.folder), "/nowhere") == place
    assert find("studies/tiny", None) == place
    monkeypatch.setenv("STUDY_HOME", str(place.root))
    assert find("tiny", None) == place
    assert begun(place.root) == [place]


def test_what_was_never_begun(begin_home: BeginHome, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"no study 'tiny' was run in .*; no study was begun there"):
        find("tiny", str(tmp_path / "studies"))
    begin_home([])
    with pytest.raises(StudyError, match=r"no study 'tinny' was run in .*; did you mean 'tiny'"):
        find("tinny", str(tmp_path / "studies"))


def test_a_record_while_it_runs(begin_home: BeginHome) -> None:
    place = begin_home([COMPLETE, FAILED], running=1)
    before = {path: path.stat().st_mtime_ns for path in place.folder.rglob("*")}
    with place.locked():
        record = open_study("tiny", home=place.root)
    assert [trial.state for trial in record.trials] == [COMPLETE, FAILED, RUNNING]
    assert record.trials[1].traceback is not None
    assert not record.finished
    after = {path: path.stat().st_mtime_ns for path in place.folder.rglob("*") if path != place.lock}
    assert {path: before[path] for path in after} == after  # nothing was written


def test_the_package_offers_it(begin_home: BeginHome) -> None:
    import study

    place = begin_home()
    assert study.open_study(place.folder).finished


def test_a_trial_by_number_and_by_key(begin_home: BeginHome) -> None:
    record = open_study(begin_home([COMPLETE, COMPLETE]).folder)
    assert find_trial(record, "1") is record.trials[1]
    assert find_trial(record, "sgd/B64/r0/t0") is record.trials[1]
    assert job_of(record, record.trials[1]).key == "sgd/B64/r0/t0"
    with pytest.raises(StudyError, match=r"no trial '2'; trials are numbered 0 to 1, or named like sgd/B64/r0/t0"):
        find_trial(record, "2")


def test_no_trial_at_all(begin_home: BeginHome) -> None:
    with pytest.raises(StudyError, match="has no trials yet"):
        find_trial(open_study(begin_home([]).folder), "0")


def test_a_folder_of_another_version(begin_home: BeginHome) -> None:
    place = begin_home([])
    facts = place.read_facts()
    assert facts is not None
    del facts["started_at"]
    place.write_facts(facts)
    with pytest.raises(StudyError, match="lacks 'started_at', so another version"):
        open_study(place.folder)
