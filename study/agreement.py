"""Whether a study's folder and its ledger tell of the same study: one of them may have been moved, or lost."""

from __future__ import annotations

from study.errors import StudyError
from study.home import StudyHome


def check_agreement(place: StudyHome, storage: str, trials: int, *, begun: bool) -> None:
    """Refuse to begin what the storage has already, and to begin anew what the folder has.

    Args:
        place: the study's folder.
        storage: `search.storage` of the study file.
        trials: that the ledger holds.
        begun: whether the folder has the study's facts.

    Raises:
        StudyError: with what is to be restored.
    """
    if trials and not begun:
        raise StudyError(
            f"the storage holds {trials} trials of a study '{place.name}' already, but {place.facts} is missing; "
            "restore it, or begin another with name=..."
        )
    if begun and not trials and any(place.trials.iterdir()):
        raise StudyError(
            f"{place.trials} has trials of the study '{place.name}', but its storage ({storage}) holds none; restore "
            "the storage, or begin another with name=..."
        )
