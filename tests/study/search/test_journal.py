"""The journal with one writer: Optuna's own reader finds the same in it, at any time and after any kill."""

from __future__ import annotations

import os
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from study.search.journal import OneWriterJournal, mend_journal


def _fill(study: optuna.Study, count: int) -> None:
    for index in range(count):
        trial = study.ask()
        trial.suggest_float("x", 0, 1)
        trial.set_user_attr("kept", {"index": index, "list": [1, None]})
        trial.report(0.5, 1)
        study.tell(trial, index)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "optuna.log"


def _theirs(path: Path) -> optuna.Study:
    return optuna.load_study(study_name="s", storage=JournalStorage(JournalFileBackend(str(path))))


def test_optunas_reader_finds_what_was_written(path: Path) -> None:
    ours = optuna.create_study(study_name="s", storage=JournalStorage(OneWriterJournal(path)), direction="maximize")
    _fill(ours, 3)
    assert _theirs(path).trials == ours.trials
    again = optuna.load_study(study_name="s", storage=JournalStorage(OneWriterJournal(path)))
    assert again.trials == ours.trials
    _fill(again, 2)
    assert [trial.number for trial in _theirs(path).trials] == [0, 1, 2, 3, 4]


def test_it_goes_on_with_a_file_that_optuna_wrote(path: Path) -> None:
    theirs = optuna.create_study(study_name="s", storage=JournalStorage(JournalFileBackend(str(path))))
    _fill(theirs, 2)
    ours = optuna.load_study(study_name="s", storage=JournalStorage(OneWriterJournal(path)))
    assert ours.trials == theirs.trials
    _fill(ours, 1)
    assert len(theirs.trials) == 3


def test_a_batch_reaches_the_disk_once_and_at_its_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = OneWriterJournal(path)
    study = optuna.create_study(study_name="s", storage=JournalStorage(journal))
    flushed: list[int] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (flushed.append(number), real(number))[1])
    before = path.stat().st_size
    with journal.batch():
        with journal.batch():
            _fill(study, 1)
        assert path.stat().st_size == before
    assert len(flushed) == 1
    assert len(_theirs(path).trials) == 1
    _fill(study, 1)
    assert len(flushed) > 1  # without a batch every fact is safe at once


def test_a_torn_line_is_dropped_and_the_next_begins_a_new_one(path: Path) -> None:
    study = optuna.create_study(study_name="s", storage=JournalStorage(OneWriterJournal(path)))
    _fill(study, 1)
    with path.open("ab") as file:
        file.write(b'{"op_code":4,"worker')
    mend_journal(path)
    again = optuna.load_study(study_name="s", storage=JournalStorage(OneWriterJournal(path)))
    _fill(again, 1)
    assert len(_theirs(path).trials) == 2
