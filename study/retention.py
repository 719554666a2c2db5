"""Which of a study's files are still needed: what a resumed trial goes on from, the winners' last checkpoints."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from study.errors import StudyError
from study.home import StudyHome
from study.look import job_of, open_study
from study.records import CONFIRM, RERANK, RUNNING, SEARCH, StudyRecord
from study.sections.storage import JOURNAL, SQLITE
from study.selection import selected
from study.spec import Spec
from study.storage import PATTERN, is_url, storage_of


def unneeded(place: StudyHome) -> list[Path]:
    """Checkpoints that nothing needs, and what killed sessions left behind.

    Kept are all checkpoints of trials that were cut off, and the newest one of each search's winner and of its confirm
    runs. What lies behind a URL is left alone.
    """
    record = open_study(place.folder)
    cut_off = {job_of(record, trial).folder for trial in record.trials if trial.state == RUNNING}
    last_only = _winners(record)
    found: list[Path] = []
    root = checkpoints_of(place)
    for folder in [] if is_url(root) else sorted(Path(root).glob("*/checkpoints")):
        if folder.parent.name in cut_off:
            continue
        if folder.parent.name in last_only:
            found += sorted(folder.glob(PATTERN))[:-1]
        else:
            found.append(folder)
    return [*found, *(path for path in (place.ray,) if path.exists())]


def checkpoints_of(place: StudyHome) -> str:
    """The folder or URL below which the study's trials keep their checkpoints."""
    return storage_of(place, None, place.read_facts() or {}).root


def delete_from_database(place: StudyHome) -> int:
    """Where the ledger lives in a database and not in the study's folder, take it out of there.

    Returns:
        How many Optuna studies went.
    """
    record = open_study(place.folder)
    search = Spec.model_validate(record.spec).search
    if search.storage in (JOURNAL, SQLITE):
        return 0
    from study.search.ledger import Ledger

    return Ledger(place.ledger, record.plan, search, read_only=True).delete()


def weigh(paths: Iterable[Path]) -> tuple[int, int]:
    """Number of files at and below the paths, and their bytes."""
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])]
    sizes = [file.stat().st_size for file in files if file.is_file() and not file.is_symlink()]
    return len(sizes), sum(sizes)


def remove(paths: Iterable[Path]) -> None:
    """Delete files and folders.

    Raises:
        StudyError: one cannot be deleted.
    """
    for path in paths:
        try:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        except OSError as error:
            raise StudyError(
                f"{error.filename or path} cannot be deleted ({error.strerror}); check its permissions"
            ) from None


def _winners(record: StudyRecord) -> set[str]:
    """Folders of each search's winner and of its confirm runs."""
    kept = {job_of(record, trial).folder for trial in record.trials if trial.phase == CONFIRM}
    for cell in record.plan.cells:
        for repeat in range(record.plan.repeats):
            own, reruns = (
                [trial for trial in record.of_cell(cell.name, phase) if trial.repeat == repeat]
                for phase in (SEARCH, RERANK)
            )
            best = selected(own, reruns, record.plan.rerank)
            if best is not None:
                kept.add(job_of(record, best).folder)
    return kept
