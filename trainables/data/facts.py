"""Sizes of a data set and whether its files are there, without numpy and torch."""

from __future__ import annotations

from trainables.config import DataConfig
from trainables.data import known_set
from trainables.data.sets import SetFacts

__all__ = ["SetFacts", "data_facts", "require_present"]


def data_facts(config: DataConfig) -> SetFacts:
    """Sizes of the data set that `config` names.

    Published sizes need no files; those of an image folder, or with `verify: false`, are counted. Raises
    ConfigError on an unknown name, illegal options, or files that cannot be counted.
    """
    return known_set(config).facts(config)


def require_present(config: DataConfig) -> None:
    """Make sure that the files are there; with `download: true` they are fetched.

    Raises ConfigError, one sentence: the absolute path looked at, the files expected, those missing, where to
    get them.
    """
    known_set(config).require_present(config)
