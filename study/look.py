"""Finding a study that was begun: by name, by its file or by its folder. Writes nothing, imports nothing heavy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from study.errors import StudyError, nearest, shown
from study.home import StudyHome, home_root

if TYPE_CHECKING:
    from study.jobs import Job
    from study.records import StudyRecord, TrialRecord


def open_study(study: str | Path, *, home: str | Path | None = None) -> StudyRecord:
    """What a home holds of a study that was begun, finished or not; a running one may be read too.

    Args:
        study: its name, its study file or its folder.
        home: the home folder of all studies; STUDY_HOME or ./studies where it is not given.

    Raises:
        StudyError: no such study there, or it cannot be read.
    """
    place = find(str(study), str(home) if home is not None else None)
    from study.session import load_record

    try:
        return load_record(place)
    except KeyError as error:
        raise StudyError(
            f"{place.folder} lacks {error}, so another version of this package wrote it; read it with that one"
        ) from None


def find(study: str, home: str | None) -> StudyHome:
    """The home of a study that was begun.

    Raises:
        StudyError: none was begun there; the message names those that were.
    """
    place = _place(study, home)
    if not place.facts.is_file():
        known = [other.name for other in begun(place.root)]
        hint = nearest(place.name, known) if known else "no study was begun there"
        raise StudyError(
            f"no study {shown(place.name)} was run in {place.root}; {hint} (--home says where studies are)"
        )
    return place


def begun(root: Path) -> list[StudyHome]:
    """Every study that was begun in a home folder, by name."""
    return [StudyHome(root, path.parent.name) for path in sorted(root.glob("*/study.json"))]


def job_of(record: StudyRecord, trial: TrialRecord) -> Job:
    """The trial as a job, for its key, its folder and its config."""
    from study.jobs import Job

    return Job(
        trial.number,
        record.plan.cell(trial.cell),
        trial.repeat,
        trial.phase,
        trial.index,
        trial.params,
        trial.seed,
    )


def find_trial(record: StudyRecord, given: str) -> TrialRecord:
    """A trial by its number, or by its key such as lars/B1077/r0/t3.

    Raises:
        StudyError: there is none.
    """
    for trial in record.trials:
        if given in (str(trial.number), job_of(record, trial).key):
            return trial
    if not record.trials:
        raise StudyError(f"the study '{record.name}' has no trials yet")
    last = record.trials[-1].number
    example = job_of(record, record.trials[-1]).key
    raise StudyError(
        f"the study '{record.name}' has no trial {shown(given)}; trials are numbered 0 to {last}, "
        f"or named like {example}"
    )


def _place(study: str, home: str | None) -> StudyHome:
    path = Path(study)
    if path.suffix in (".yaml", ".yml"):
        from study.load import load_study

        return StudyHome(home_root(home), load_study(path).name)
    if path.name != study and (path / "study.json").is_file():
        path = path.absolute()
        return StudyHome(path.parent, path.name)
    return StudyHome(home_root(home), study)
