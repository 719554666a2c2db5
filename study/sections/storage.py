"""Where a study's ledger is kept, as its study file names it; passwords are kept out of everything that is written."""

from __future__ import annotations

import re
from typing import Final

from study.errors import shown

JOURNAL: Final = "journal"
SQLITE: Final = "sqlite"
PASSWORD_VARIABLE: Final = "STUDY_STORAGE_PASSWORD"
HIDDEN: Final = "***"
_URL = re.compile(
    r"^(?P<head>[a-z][a-z0-9+]*://)(?:(?P<user>[^:@/]*)(?::(?P<password>[^@]*))?@)?(?P<rest>.+)$", re.DOTALL
)


def check_storage(storage: str) -> str:
    """The storage itself, if it is one.

    Raises:
        ValueError: it is neither a known word nor a database URL.
    """
    if storage in (JOURNAL, SQLITE):
        return storage
    if not _URL.match(storage):
        raise ValueError(
            f"must be journal, sqlite or a database URL such as postgresql://user@host/optuna, but got {shown(storage)}"
        )
    return storage


def without_password(storage: str) -> str:
    """The storage with `***` in the place of a password."""
    return with_password(storage, HIDDEN) if password_of(storage) is not None else storage


def password_of(storage: str) -> str | None:
    """The password in a URL; None where it has none."""
    found = _URL.match(storage)
    return found["password"] if found else None


def with_password(storage: str, password: str | None) -> str:
    """The URL with this password (already quoted for a URL); None leaves it without one."""
    found = _URL.match(storage)
    if found is None or not found["user"]:
        return storage
    secret = "" if password is None else f":{password}"
    return f"{found['head']}{found['user']}{secret}@{found['rest']}"
