"""One session of a study, from the lock to the report."""

from __future__ import annotations

import datetime
import platform
import subprocess
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.errors import StudyError
from study.home import StudyHome, home_root
from study.interrupts import handled, patient, stop_requested
from study.meter import Meter, Usage
from study.plan import Plan, make_plan
from study.records import FAILED, StudyRecord, TrialRecord
from study.spec import Spec

if TYPE_CHECKING:
    from study.jobs import Job
    from study.search.ledger import Ledger
    from study.tracking.tracker import Tracker

TRACKING_SECONDS = 60.0
TRACKING_SECONDS_ON_STOP = 2.0
MOST_TRACEBACK = 8_000  # characters, the newest; the trial's folder has the whole
_PACKAGES = ("torch", "torchvision", "ray", "optuna", "mlflow", "numpy", "scikit-learn")


def run_study(
    spec: Spec,
    *,
    home: str | Path | None = None,
    address: str | None = None,
    resume: bool = False,
    say: Callable[[str], None] = print,
) -> StudyRecord:
    """Run a study to its report, or as far as a request to stop allows.

    Args:
        spec: what to run, from `load_study`.
        home: the home folder of all studies; STUDY_HOME or ./studies where it is not given.
        address: a Ray cluster; RAY_ADDRESS or a cluster on this machine where it is not given.
        resume: go on with a study that was begun here before.
        say: takes each line for the user.

    Returns:
        The study as it stands; `finished` is False where it was stopped.

    Raises:
        StudyError: something that the user can put right; nothing was spent.
    """
    plan = make_plan(spec)
    place = StudyHome(home_root(str(home) if home is not None else None), spec.name)
    before = place.read_facts()
    _check_resume(spec, place, before, resume)
    place.create()
    with place.locked():
        return _run(spec, plan, place, before, address, say)


def load_record(place: StudyHome) -> StudyRecord:
    """A study that was run before, as its home holds it.

    Raises:
        StudyError: no such study here.
    """
    from study.load import validate
    from study.search.ledger import Ledger

    facts = place.read_facts()
    if facts is None:
        raise StudyError(f"no study '{place.name}' was run in {place.root}; run it first, or name its --home")
    spec = validate(facts["spec"], where=str(place.facts))
    plan = make_plan(spec)
    return _record(spec, plan, Ledger(place.ledger, plan, spec.search, read_only=True), facts, place)


def _run(
    spec: Spec,
    plan: Plan,
    place: StudyHome,
    before: dict[str, Any] | None,
    address: str | None,
    say: Callable[[str], None],
) -> StudyRecord:
    from study.search.ledger import Ledger
    from study.tracking.notes import end_of_study, start_of_study
    from study.work import WorkQueue

    ledger = Ledger(place.ledger, plan, spec.search)
    if before and before.get("reported") and WorkQueue(plan, ledger).finished():
        say("nothing is left to run: the study is complete")
        record = _record(spec, plan, ledger, before, place)
        _write_report(record, place)
        return record
    facts = before or _first_facts(spec, plan)
    place.write_facts(facts)
    with handled():
        tracker = start_of_study(spec, plan, place, facts)
        if WorkQueue(plan, ledger).finished():
            say("nothing is left to run: every trial is done")
        else:
            _sweep(spec, plan, place, ledger, tracker, facts, address, resumed=before is not None, say=say)
        record = _record(spec, plan, ledger, facts, place)
        if stop_requested():
            return record
        report = _write_report(record, place)
        trouble = end_of_study(tracker, record, [report, place.facts], TRACKING_SECONDS)
        if trouble:
            say(f"MLflow could not be told everything ({trouble}); the rest is kept in {place.spool}")
        else:
            place.write_facts({**facts, "reported": True})
        return record


def _sweep(
    spec: Spec,
    plan: Plan,
    place: StudyHome,
    ledger: Ledger,
    tracker: Tracker,
    facts: dict[str, Any],
    address: str | None,
    *,
    resumed: bool,
    say: Callable[[str], None],
) -> None:
    """Run what is open, and enter into `facts` what it cost; after a request to stop the tracker is closed as well."""
    from study.coordinator import Coordinator
    from study.progress import Progress
    from study.sweep.engine import cluster, run_sweep

    meter = Meter()
    settled = sum(record.finished for record in ledger.records())
    if resumed:
        say(f"  resuming: {settled} of {plan.trials} trials are done, {ledger.cut_off} were cut off and go on")
    coordinator = Coordinator(spec, plan, place, ledger, tracker, Progress(plan, settled=settled))
    try:
        with patient(), cluster(address) as resources:
            if not stop_requested():
                run_sweep(spec, place, coordinator, ledger.jobs(), resources)
    except StudyError:
        tracker.close_interrupted((), TRACKING_SECONDS_ON_STOP)
        if not ledger.records():
            place.facts.unlink()  # nothing was begun: mending the cause needs no --resume
        raise
    except KeyboardInterrupt:
        if not stop_requested():
            raise
    finally:
        coordinator.close()
        facts["sessions"].append(_session(meter.stop()))
        if place.facts.exists():
            place.write_facts(facts)
    if stop_requested():
        tracker.close_interrupted(coordinator.interrupted(), TRACKING_SECONDS_ON_STOP)


def _write_report(record: StudyRecord, place: StudyHome) -> Path:
    from study.reporting.html import write_report

    return write_report(record, place.report)


def _record(spec: Spec, plan: Plan, ledger: Ledger, facts: Mapping[str, Any], place: StudyHome) -> StudyRecord:
    from study.work import WorkQueue

    sessions = facts["sessions"]
    return StudyRecord(
        name=spec.name,
        question=spec.question,
        spec=spec.to_dict(),
        plan=plan,
        trials=tuple(_with_traceback(job, record, place) for job, record in ledger.jobs()),
        finished=WorkQueue(plan, ledger).finished(),
        wall_seconds=sum(session["wall_seconds"] for session in sessions),
        cpu_seconds=sum(session["cpu_seconds"] for session in sessions),
        peak_memory_bytes=max((session["peak_memory_bytes"] for session in sessions), default=0),
        versions=facts["versions"],
        started_at=facts["started_at"],
    )


def _with_traceback(job: Job, record: TrialRecord, place: StudyHome) -> TrialRecord:
    if record.state != FAILED:
        return record
    try:
        text = (place.trial(job.folder) / "error.txt").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return record
    return replace(record, traceback=text[-MOST_TRACEBACK:])


def _check_resume(spec: Spec, place: StudyHome, before: dict[str, Any] | None, resume: bool) -> None:
    if before is None:
        if resume:
            raise StudyError(
                f"there is no study '{spec.name}' in {place.root} to resume; leave out --resume to begin it"
            )
        return
    if not resume:
        raise StudyError(
            f"the study '{spec.name}' was begun in {place.folder}; add --resume to go on with it (a finished one only "
            f"gets its report anew), or name=... to begin another"
        )
    if before["spec_hash"] != spec.digest():
        raise StudyError(
            f"the study '{spec.name}' was begun with another spec: {_difference(before['spec'], spec.to_dict())}; "
            "resume it with the spec that it began with, or begin another with name=..."
        )


def _difference(old: Any, new: Any, path: str = "") -> str:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            found = _difference(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
            if found:
                return found
        return "" if path else "its arms' shipped search spaces have changed"
    return "" if old == new else f"{path} was {old!r} and is now {new!r}"


def _first_facts(spec: Spec, plan: Plan) -> dict[str, Any]:
    return {
        "spec": spec.to_dict(),
        "spec_hash": plan.spec_hash,
        "id": uuid.uuid4().hex,
        "started_at": datetime.datetime.now(datetime.UTC).astimezone().isoformat(timespec="seconds"),
        "versions": _versions(),
        "sessions": [],
    }


def _session(usage: Usage) -> dict[str, float]:
    return {
        "wall_seconds": round(usage.wall_seconds, 1),
        "cpu_seconds": round(usage.cpu_seconds, 1),
        "peak_memory_bytes": usage.peak_memory_bytes,
    }


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "large-batch-study": _own_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def _own_version() -> str:
    """The package's version and, from a checkout, its commit."""
    try:
        version = metadata.version("large-batch-study")
    except metadata.PackageNotFoundError:
        version = "unknown"
    try:
        folder = Path(__file__).parent
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
        return f"{version} ({described.stdout.strip()})"
    except (OSError, subprocess.SubprocessError):
        return version
