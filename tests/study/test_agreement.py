"""A study's folder and its ledger must tell of the same study."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from study.agreement import check_agreement
from study.errors import StudyError
from study.home import StudyHome
from study.load import validate
from study.records import COMPLETE
from study.session import run_study

BeginHome = Callable[..., StudyHome]


def resume(place: StudyHome, *, resume: bool) -> None:
    facts = place.read_facts()
    assert facts is not None
    spec = validate(facts["spec"], where="study.json")
    if not resume:
        place.facts.unlink()
    run_study(spec, home=place.root, resume=resume)


def test_a_ledger_without_its_folder(begin_home: BeginHome) -> None:
    place = begin_home([COMPLETE, COMPLETE], running=1)
    with pytest.raises(StudyError, match=r"holds 3 trials of a study 'tiny' already, but .*study\.json is missing"):
        resume(place, resume=False)


@pytest.mark.parametrize("storage", ["journal", "sqlite"])
def test_a_folder_without_its_ledger(begin_home: BeginHome, storage: str) -> None:
    """Nothing is run a second time because a file was lost."""
    search = {"trials": 3, "repeats": 2, "method": "random", "storage": storage}
    place = begin_home([COMPLETE, COMPLETE], search=search)
    (place.ledger if storage == "journal" else place.ledger.with_suffix(".db")).unlink()
    with pytest.raises(StudyError, match=rf"has trials of the study 'tiny', but its storage \({storage}\) holds none"):
        resume(place, resume=True)


def test_what_belongs_together(begin_home: BeginHome) -> None:
    place = begin_home([])
    check_agreement(place, "journal", 0, begun=False)
    check_agreement(place, "journal", 0, begun=True)  # killed before its first trial
    check_agreement(begin_home([COMPLETE]), "journal", 1, begun=True)
