"""The study file's data sets as the loop takes them: their sizes for the plan, and whether their files are there."""

from __future__ import annotations

import os

from study.errors import StudyError
from study.sections import DataSpec
from study.spec import Spec
from trainables.config import ConfigError, DataConfig
from trainables.data.facts import SetFacts, data_facts, require_present


def data_config(data: DataSpec, split_seed: int = 0) -> DataConfig:
    """What a trial is told of its data; a relative root is one of this process, not of the worker's."""
    return DataConfig(
        name=data.name,
        root=None if data.root is None else os.path.abspath(os.path.expanduser(data.root)),
        download=data.download,
        split_seed=split_seed,
        validation_fraction=data.validation_fraction,
        test_fraction=data.test_fraction,
        options=data.options,
    )


def facts_of(data: DataSpec) -> SetFacts:
    """Sizes of a data set.

    Raises:
        StudyError: illegal options, or files that must be counted and cannot be.
    """
    try:
        return data_facts(data_config(data))
    except ConfigError as error:
        raise StudyError(f"data: {error}") from None


def require_data(spec: Spec) -> None:
    """Have the files of every data set on this machine, fetched where the study file says `download: true`.

    Raises:
        StudyError: the path looked at, the files expected, those missing, where to get them.
    """
    for data in spec.data_sets:
        try:
            require_present(data_config(data))
        except ConfigError as error:
            raise StudyError(f"data: {error}") from None
