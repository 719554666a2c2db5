"""Optuna's storage as the study file names it: the study's journal, a sqlite file beside it, or a database."""

from __future__ import annotations

import contextlib
import json
import os
import urllib.parse
from contextlib import AbstractContextManager
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend

from study.errors import StudyError
from study.mounts import refuse_sqlite_on_network
from study.search.journal import OneWriterJournal, mend_journal
from study.sections.storage import (
    HIDDEN,
    JOURNAL,
    PASSWORD_VARIABLE,
    SQLITE,
    password_of,
    with_password,
    without_password,
)


class Store:
    """An open storage, and how the facts of one event are written together."""

    def __init__(self, storage: BaseStorage, journal: OneWriterJournal | None = None) -> None:
        self.storage = storage
        self._journal = journal

    def batch(self) -> AbstractContextManager[None]:
        """Facts written within it reach the disk together, where the storage can do that."""
        return self._journal.batch() if self._journal else contextlib.nullcontext()


def open_store(kind: str, journal: Path, *, read_only: bool) -> Store:
    """Open the storage that a study's ledger lives in.

    Args:
        kind: `search.storage` of the study file.
        journal: the journal file; a sqlite file lies beside it.
        read_only: nothing is made or mended; a study without a storage has none of its trials.

    Raises:
        StudyError: sqlite on a network file system, a database that does not answer, or a damaged journal.
    """
    if kind == JOURNAL:
        return _open_journal(journal, read_only=read_only)
    if kind == SQLITE:
        kind = f"sqlite:///{journal.with_suffix('.db')}"
    if kind.startswith("sqlite") and ":///" in kind:
        path = Path(kind.partition(":///")[2])
        refuse_sqlite_on_network(path, "search.storage=sqlite", "use search.storage=journal or a database URL")
        if read_only and not path.exists():
            return _open_journal(Path(os.devnull), read_only=True)
    try:
        return Store(optuna.storages.get_storage(_connectable(kind)))
    except Exception as error:  # of SQLAlchemy, of a driver, or ImportError where there is none
        raise StudyError(
            f"the storage {without_password(kind)} does not open ({_reason(error, kind)}); check search.storage, "
            f"{PASSWORD_VARIABLE} and that the database driver is installed"
        ) from None


def _open_journal(path: Path, *, read_only: bool) -> Store:
    own = None
    try:
        if read_only:
            return Store(JournalStorage(JournalFileBackend(str(path if path.exists() else os.devnull))))
        mend_journal(path)
        own = OneWriterJournal(path)
        return Store(JournalStorage(own), own)
    except (ValueError, KeyError) as error:  # a line that is no JSON, or none of Optuna's
        if own is not None:
            own.close()
        raise StudyError(
            f"the journal {path} is damaged ({_damage(path) or f'{type(error).__name__}: {error}'}); restore it from a "
            "copy, or begin another study with name=..."
        ) from None


def _damage(path: Path) -> str | None:
    """The first line that is no JSON."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                json.loads(line)
            except ValueError:
                return f"line {number} is not JSON"
    return None


def _connectable(url: str) -> str:
    """The URL with the password from the environment where it holds none itself."""
    given = password_of(url)
    if given not in (None, "", HIDDEN):
        return url
    secret = os.environ.get(PASSWORD_VARIABLE)
    return with_password(url, urllib.parse.quote(secret, safe="") if secret else None)


def _reason(error: Exception, url: str) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = f"{type(error).__name__}: {lines[0] if lines else ''}"
    for secret in (password_of(url), os.environ.get(PASSWORD_VARIABLE)):
        if secret:
            text = text.replace(secret, HIDDEN)
    return text[:300]
